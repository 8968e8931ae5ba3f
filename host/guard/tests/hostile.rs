//! Components that are made to escape the budget, or the maximum of memory.

use logship_guard::{Guard, GuardError};
use wasmtime::component::{Component, Linker, Val};
use wasmtime::{Config, Engine, Store, Trap};

const BUDGET: u64 = 1_000_000;
const GUARD: Guard = Guard { budget: Some(BUDGET), memory: Some(1 << 20) };

fn guard(text: &str) -> Result<Vec<u8>, GuardError> {
    GUARD.component(&parse(text), &|_| false)
}

fn parse(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn rejected(text: &str) -> String {
    guard(text).expect_err(text).to_string()
}

/// Calls a component's `f` with these arguments. A loop without a guard ends after 10 s, with another trap.
fn call(component: &[u8], arguments: &[Val]) -> wasmtime::Result<Val> {
    let engine = Engine::new(Config::new().epoch_interruption(true))?;
    let clock = engine.clone();
    std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_secs(10));
        clock.increment_epoch();
    });
    let mut store = Store::new(&engine, ());
    store.set_epoch_deadline(1);
    let component = Component::new(&engine, component)?;
    let instance = Linker::new(&engine).instantiate(&mut store, &component)?;
    let f = instance.get_func(&mut store, "f").unwrap();
    let mut results = [Val::Bool(false)];
    f.call(&mut store, arguments, &mut results)?;
    Ok(results[0].clone())
}

fn assert_out_of_budget(result: wasmtime::Result<Val>) {
    let error = result.expect_err("it ends");
    assert_eq!(error.downcast_ref::<Trap>(), Some(&Trap::UnreachableCodeReached), "{error:?}");
}

/// A component whose `f` runs `code` with a local variable `$i`.
fn component(rest: &str, code: &str) -> String {
    format!(
        r#"(component
            (core module $m {rest} (func (export "f") (result i32) (local $i i32) {code} (local.get $i)))
            (core instance $i (instantiate $m))
            (func (export "f") (result u32) (canon lift (core func $i "f"))))"#
    )
}

/// A loop of `n` steps.
fn steps(n: u32, step: &str) -> String {
    format!(
        "(loop {step} (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if 0 (i32.lt_u (local.get $i) (i32.const {n}))))"
    )
}

/// Each call of the inner component would renew its budget, so that nothing would end.
#[test]
fn rejects_code_that_calls_other_components() {
    let inner = component("", &steps(1000, "")).replacen("(component", "(component $inner", 1);
    let outer = format!(
        r#"(component {inner}
            (instance $inner (instantiate $inner))
            (alias export $inner "f" (func $step))
            (core func $step (canon lower (func $step)))
            (core module $m (import "" "step" (func $step (result i32)))
                (func (export "f") (result i32) (loop (drop (call $step)) (br 0)) (unreachable)))
            (core instance $i (instantiate $m (with "" (instance (export "step" (func $step))))))
            (func (export "f") (result u32) (canon lift (core func $i "f"))))"#
    );
    assert_eq!(guard(&outer).unwrap_err(), GuardError::CallsComponents);

    // The same with two components, side by side.
    let user = r#"(component $user (import "step" (func $step (result u32)))
            (core func $step (canon lower (func $step)))
            (core module $m (import "" "step" (func $step (result i32)))
                (func (export "f") (result i32) (loop (drop (call $step)) (br 0)) (unreachable)))
            (core instance $i (instantiate $m (with "" (instance (export "step" (func $step))))))
            (func (export "f") (result u32) (canon lift (core func $i "f"))))"#;
    let pair = format!(
        r#"(component {inner} {user}
            (instance $inner (instantiate $inner))
            (instance $user (instantiate $user (with "step" (func $inner "f"))))
            (export "f" (func $user "f")))"#
    );
    assert_eq!(guard(&pair).unwrap_err(), GuardError::CallsComponents);
    // Trusted code may.
    let trusted = parse(user);
    GUARD.component(&parse(&pair), &|part| part == trusted).unwrap();
    // The host's functions renew no budget.
    guard(&user.replacen("$user ", "", 1)).unwrap();
}

/// A callback that yields is called again at once.
#[test]
fn callbacks_share_the_budget_of_their_call() {
    let yielding = r#"(component
        (core module $m
            (func (export "f") (result i32) (i32.const 1 (; yield ;)))
            (func (export "again") (param i32 i32 i32) (result i32) (local $i i32)
                (loop (local.set $i (i32.add (local.get $i) (i32.const 1)))
                    (br_if 0 (i32.lt_u (local.get $i) (i32.const 1000))))
                (i32.const 1)))
        (core instance $i (instantiate $m))
        (func (export "f") async (result u32)
            (canon lift (core func $i "f") async (callback (core func $i "again")))))"#;
    let guarded = guard(yielding).unwrap();
    // The counter's first value, and those of the only function that resets it: before a call, and after.
    let resets = guarded.windows(4).filter(|code| code == b"\x42\xc0\x84\x3d");
    assert_eq!(resets.count(), 3);
}

#[test]
fn guarded_component_can_be_guarded_again() {
    let endless = component("", "(loop (br 0))");
    let once = guard(&endless).unwrap();
    let twice = GUARD.component(&once, &|_| false).unwrap();
    assert_out_of_budget(call(&twice, &[]));
    let short = guard(&component("", &steps(100, ""))).unwrap();
    let short = GUARD.component(&short, &|_| false).unwrap();
    assert_eq!(call(&short, &[]).unwrap(), Val::U32(100));
}

/// Names that are those of the guard give no access to its counter.
#[test]
fn names_of_the_guard_belong_to_the_component() {
    let imitation = r#"(component
        (core module $c (global (export "budget") (mut i64) (i64.const 5)))
        (core module $m
            (import "logship:guard" "budget" (global $b (mut i64)))
            (func (export "logship:guard/f") (result i32) (i32.const 7))
            (func (export "f") (result i32) (loop (global.set $b (i64.const 1000000)) (br 0)) (unreachable)))
        (core instance $c (instantiate $c))
        (core instance $i (instantiate $m (with "logship:guard" (instance $c))))
        (func (export "f") (result u32) (canon lift (core func $i "f"))))"#;
    assert_out_of_budget(call(&guard(imitation).unwrap(), &[]));
}

/// Each memory has a maximum of its own, so many of them would exceed it together.
#[test]
fn rejects_too_many_memories_tables_and_instances() {
    for (module, most, words) in [
        ("(memory 1)", 32, "33 memories, and may have 32"),
        ("(table 1 funcref)", 128, "129 tables, and may have 128"),
        ("", 1000, "1001 instances of modules"),
    ] {
        let many = |count| {
            let instances = "(core instance (instantiate $m))".repeat(count);
            format!("(component (core module $m {module}) {instances})")
        };
        // wasmparser has a limit of instances itself.
        if most < 1000 {
            guard(&many(most)).unwrap();
            let error = rejected(&many(most + 1));
            assert!(error.contains(words), "{error}");
        }
    }
    let memories = rejected(&format!(
        "(component (core module $m {}) (core instance (instantiate $m)))",
        "(memory 1)".repeat(40)
    ));
    assert!(memories.contains("40 memories"), "{memories}");
    // Doubled at each level.
    let mut nested =
        "(component $c0 (core module $m (memory 1)) (core instance (instantiate $m)))".to_owned();
    for level in 1..70 {
        nested = format!(
            "(component $c{level} {nested} {})",
            format!("(instance (instantiate $c{}))", level - 1).repeat(2)
        );
    }
    assert!(rejected(&nested).contains("memories, and may have 32"));
}

#[test]
fn rejects_large_tables_and_exceptions_in_tables() {
    let error = rejected("(component (core module (table 300000 funcref)))");
    assert!(error.contains("a table of 300000 elements"), "{error}");
    let error = rejected("(component (core module (tag) (table 1 exnref) (func (loop (br 0)))))");
    assert!(error.contains("keeps exceptions in tables"), "{error}");
}

/// A part that is passed on could be instantiated without being counted.
#[test]
fn rejects_components_that_are_passed_on() {
    for text in [
        r#"(component (import "c" (component $c)) (instance (instantiate $c)))"#,
        r#"(component (component $c) (export "c" (component $c)))"#,
        r#"(component $o (component $c) (component (alias outer $o $c (component $d)) (instance (instantiate $d))))"#,
        r#"(component (component $c) (component $d (import "c" (component))) (instance (instantiate $d (with "c" (component $c)))))"#,
        r#"(component (component $c) (instance (export "c" (component $c))))"#,
        r#"(component (import "i" (instance $i (export "c" (component)))) (alias export $i "c" (component $c)))"#,
    ] {
        assert!(rejected(text).contains("passes modules or components"), "{text}");
    }
}

/// Proposals that allocate outside of memories, share them, or leave functions in ways that the guard doesn't know.
#[test]
fn rejects_each_unknown_proposal_by_name() {
    for (module, words) in [
        ("(memory 1 1 shared)", "threads"),
        (
            "(memory 1) (func (drop (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1))))",
            "threads",
        ),
        ("(memory i64 1)", "memory64"),
        ("(table i64 1 funcref)", "memory64"),
        ("(memory 1 (pagesize 1))", "custom page sizes"),
        ("(type (array i8))", "gc"),
        ("(type (struct))", "gc"),
        ("(func (drop (ref.i31 (i32.const 0))))", "gc"),
        ("(func try catch_all end)", "legacy"),
        ("(type $f (func)) (type (cont $f))", "stack switching"),
        ("(memory 1) (func (memory.discard (i32.const 0) (i32.const 0)))", "memory control"),
    ] {
        let Ok(component) = wat::parse_str(format!("(component (core module {module}))")) else {
            panic!("{module}")
        };
        let error = GUARD.component(&component, &|_| false).expect_err(module).to_string();
        assert!(error.starts_with("it can't be guarded: ") && error.contains(words), "{module}: {error}");
    }
}
