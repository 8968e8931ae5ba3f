//! Calls that compute without an end trap; others return what they returned before.

use logship_guard::{Guard, GuardError};
use wasmtime::component::{Component, Instance, Linker, ResourceAny};
use wasmtime::{Config, Engine, Store, Trap};

const BUDGET: u64 = 1_000_000;

fn guard(text: &str) -> Result<Vec<u8>, GuardError> {
    let component = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    Guard { budget: Some(BUDGET), memory: Some(1 << 20) }.component(&component, &|_| false)
}

/// Returns a component with a module that exports `f`, from `u32` to `u32`.
fn component(module: &str) -> String {
    format!(
        r#"(component
            (core module $m {module})
            (core instance $i (instantiate $m))
            (func (export "f") (param "n" u32) (result u32) (canon lift (core func $i "f"))))"#
    )
}

struct Host {
    store: Store<()>,
    instance: Instance,
}

impl Host {
    fn new(component: &[u8]) -> wasmtime::Result<Self> {
        // Without the guard, a loop would end here after 10 s, and with another trap.
        let engine = Engine::new(Config::new().epoch_interruption(true)).unwrap();
        let clock = engine.clone();
        std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_secs(10));
            clock.increment_epoch();
        });
        let component = Component::new(&engine, component).unwrap();
        let mut store = Store::new(&engine, ());
        store.set_epoch_deadline(1);
        let instance = Linker::new(&engine).instantiate(&mut store, &component)?;
        Ok(Self { store, instance })
    }

    fn call(&mut self, n: u32) -> wasmtime::Result<u32> {
        let f = self.instance.get_typed_func::<(u32,), (u32,)>(&mut self.store, "f")?;
        Ok(f.call(&mut self.store, (n,))?.0)
    }
}

/// Checks that an error is the guard's trap.
fn assert_out_of_budget(name: &str, error: &wasmtime::Error) {
    assert_eq!(error.downcast_ref::<Trap>(), Some(&Trap::UnreachableCodeReached), "{name}: {error:?}");
}

/// Work of `n` steps. The result is `n`, and the work for `u32::MAX` takes hours.
const WORK: [(&str, &str); 14] = [
    (
        "a loop",
        r#"(func (export "f") (param $n i32) (result i32) (local $i i32)
            (block (loop (br_if 1 (i32.eq (local.get $i) (local.get $n)))
                (local.set $i (i32.add (local.get $i) (i32.const 1))) (br 0)))
            (local.get $i))"#,
    ),
    (
        "a loop in a loop that returns",
        r#"(func (export "f") (param $n i32) (result i32) (local $i i32)
            (loop (loop
                (if (i32.eq (local.get $i) (local.get $n)) (then (return (local.get $i))))
                (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if 1 (i32.and (local.get $i) (i32.const 1))) (br 0)))
            (unreachable))"#,
    ),
    (
        "a loop with parameters and results",
        r#"(func (export "f") (param $n i32) (result i32) (local $i i32)
            (i32.const 0) (i32.const 7)
            (loop (param i32 i32) (result i32 i32)
                (local.set $i) (i32.const 1) (i32.add) (local.get $i)
                (br_if 0 (i32.lt_u (i32.add (local.get $i) (i32.const 0)) (i32.const 7)))
                (local.set $i) (local.tee $i) (i32.const 7)
                (br_if 0 (i32.lt_u (local.get $i) (local.get $n))))
            (drop) (drop) (local.get $n))"#,
    ),
    (
        "a branch table",
        r#"(func (export "f") (param $n i32) (result i32) (local $i i32)
            (block $end (loop $again
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br_table $again $end (i32.ge_u (local.get $i) (local.get $n)))))
            (local.get $i))"#,
    ),
    (
        "calls of a short function",
        r#"(func $next (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
        (func (export "f") (param $n i32) (result i32) (local $i i32)
            (block (loop (br_if 1 (i32.eq (local.get $i) (local.get $n)))
                (local.set $i (call $next (local.get $i))) (br 0)))
            (local.get $i))"#,
    ),
    (
        "nested calls",
        r#"(func $twice (param $depth i32) (result i32)
            (if (result i32) (local.get $depth)
                (then (i32.add (call $twice (i32.sub (local.get $depth) (i32.const 1)))
                    (call $twice (i32.sub (local.get $depth) (i32.const 1)))))
                (else (i32.const 1))))
        (func (export "f") (param $n i32) (result i32)
            (drop (call $twice (i32.sub (i32.const 32) (i32.clz (i32.shr_u (local.get $n) (i32.const 1))))))
            (local.get $n))"#,
    ),
    (
        "indirect calls",
        r#"(table funcref (elem $next)) (type $step (func (param i32) (result i32)))
        (func $next (type $step) (i32.add (local.get 0) (i32.const 1)))
        (func (export "f") (param $n i32) (result i32) (local $i i32)
            (block (loop (br_if 1 (i32.eq (local.get $i) (local.get $n)))
                (local.set $i (call_indirect (type $step) (local.get $i) (i32.const 0))) (br 0)))
            (local.get $i))"#,
    ),
    (
        "tail calls",
        r#"(func $step (param $i i32) (param $n i32) (result i32)
            (if (i32.eq (local.get $i) (local.get $n)) (then (return (local.get $i))))
            (return_call $step (i32.add (local.get $i) (i32.const 1)) (local.get $n)))
        (func (export "f") (param $n i32) (result i32) (return_call $step (i32.const 0) (local.get $n)))"#,
    ),
    (
        "indirect tail calls, and a loop",
        r#"(table funcref (elem $step)) (type $step (func (param i32 i32) (result i32)))
        (func $step (type $step) (local $k i32)
            (loop (local.set $k (i32.add (local.get $k) (i32.const 1))) (br_if 0 (i32.lt_u (local.get $k) (i32.const 3))))
            (if (i32.eq (local.get 0) (local.get 1)) (then (return (local.get 0))))
            (return_call_indirect (type $step) (i32.add (local.get 0) (i32.const 1)) (local.get 1) (i32.const 0)))
        (func (export "f") (param $n i32) (result i32) (return_call $step (i32.const 0) (local.get $n)))"#,
    ),
    (
        "fills",
        r#"(memory 16)
        (func (export "f") (param $n i32) (result i32) (local $i i32)
            (block (loop (br_if 1 (i32.eq (local.get $i) (local.get $n)))
                (memory.fill (i32.const 0) (i32.const 1) (i32.const 100))
                (local.set $i (i32.add (local.get $i) (i32.const 1))) (br 0)))
            (local.get $i))"#,
    ),
    (
        "growth by nothing",
        r#"(memory 1)
        (func $grow (drop (memory.grow (i32.const 0))))
        (func (export "f") (param $n i32) (result i32) (local $i i32)
            (block (loop (br_if 1 (i32.eq (local.get $i) (local.get $n)))
                (call $grow)
                (local.set $i (i32.add (local.get $i) (i32.const 1))) (br 0)))
            (local.get $i))"#,
    ),
    (
        "SIMD",
        r#"(func (export "f") (param $n i32) (result i32) (local $v v128)
            (block (loop (br_if 1 (i32.eq (i32x4.extract_lane 2 (local.get $v)) (local.get $n)))
                (local.set $v (i32x4.add (local.get $v) (v128.const i32x4 1 1 1 1))) (br 0)))
            (i32x4.extract_lane 3 (local.get $v)))"#,
    ),
    (
        "globals, and two results",
        r#"(global $one (mut i32) (i32.const 1)) (global $zero i32 (i32.const 0))
        (func $both (param $i i32) (result i32 i32) (local $k i32)
            (loop (local.set $k (i32.add (local.get $k) (global.get $one))) (br_if 0 (i32.lt_u (local.get $k) (i32.const 2))))
            (i32.add (local.get $i) (global.get $one)) (global.get $zero))
        (func (export "f") (param $n i32) (result i32) (local $i i32)
            (block (loop (br_if 1 (i32.eq (local.get $i) (local.get $n)))
                (call $both (local.get $i)) (i32.add) (local.set $i) (br 0)))
            (local.get $i))"#,
    ),
    (
        "a long body with branches over it",
        // `$pad` in the test: more instructions than are charged together.
        r#"(func (export "f") (param $n i32) (result i32) (local $i i32) (local $x i32)
            (block (loop (br_if 1 (i32.eq (local.get $i) (local.get $n)))
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br_if 0 (i32.and (local.get $i) (i32.const 1)))
                (if (i32.and (local.get $i) (i32.const 2)) (then $pad) (else $pad))
                (br 0)))
            (local.get $i))"#,
    ),
];

fn module(work: &str) -> String {
    work.replace("$pad", &"(local.set $x (i32.add (local.get $x) (i32.const 1)))".repeat(30))
}

#[test]
fn endless_work_traps() {
    for (name, work) in WORK {
        let guarded = guard(&component(&module(work))).unwrap_or_else(|error| panic!("{name}: {error}"));
        let error = Host::new(&guarded).unwrap().call(u32::MAX).expect_err(name);
        assert_out_of_budget(name, &error);
    }
}

#[test]
fn each_call_has_a_budget_of_its_own() {
    for (name, work) in WORK {
        let guarded = guard(&component(&module(work))).unwrap();
        let mut host = Host::new(&guarded).unwrap();
        // Together they need more than the budget of a call.
        for n in (100..200).chain(std::iter::repeat_n(500, 600)) {
            assert_eq!(host.call(n).unwrap_or_else(|error| panic!("{name}: {error:?}")), n, "{name}");
        }
    }
}

#[test]
fn trap_names_its_cause() {
    let error = Host::new(&guard(&component(&format!("(func $named) {}", WORK[0].1))).unwrap())
        .unwrap()
        .call(u32::MAX)
        .unwrap_err();
    let text = format!("{error:?}");
    assert!(text.contains("logship_guard::the_call_exceeded_its_budget_of_instructions"), "{text}");
}

/// Work in one long function without loops counts, however often it is called.
#[test]
fn long_functions_pay_for_their_instructions() {
    let long = "(local.set $x (i32.add (local.get $x) (i32.const 1)))".repeat(30_000);
    let work = format!(
        r#"(func $long (param $n i32) (local $x i32) (if (local.get $n) (then {long})))
        (func (export "f") (param $n i32) (result i32) (local $i i32)
            (loop (call $long (local.get $n)) (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br_if 0 (i32.lt_u (local.get $i) (i32.const 10))))
            (local.get $i))"#
    );
    let guarded = guard(&component(&work)).unwrap();
    assert_eq!(Host::new(&guarded).unwrap().call(0).unwrap(), 10);
    assert_out_of_budget("long", &Host::new(&guarded).unwrap().call(1).unwrap_err());
}

/// A length counts, not only the instruction.
#[test]
fn fills_and_copies_pay_for_their_length() {
    for instruction in ["memory.fill", "memory.copy"] {
        let work = format!(
            r#"(memory 16)
            (func (export "f") (param $n i32) (result i32) (local $i i32)
                (loop ({instruction} (i32.const 0) (i32.const 1) (i32.const 1000000))
                    (local.set $i (i32.add (local.get $i) (i32.const 1)))
                    (br_if 0 (i32.lt_u (local.get $i) (local.get $n))))
                (local.get $i))"#
        );
        let mut host = Host::new(&guard(&component(&work)).unwrap()).unwrap();
        assert_eq!(host.call(5).unwrap(), 5);
        assert_out_of_budget(instruction, &host.call(10).unwrap_err());
    }
}

/// An element of a table counts like an instruction.
#[test]
fn tables_pay_for_their_elements() {
    let work = r#"(table 100000 funcref)
        (func (export "f") (param $n i32) (result i32) (local $i i32)
            (loop (table.fill (i32.const 0) (ref.null func) (i32.const 100000))
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br_if 0 (i32.lt_u (local.get $i) (local.get $n))))
            (local.get $i))"#;
    let mut host = Host::new(&guard(&component(work)).unwrap()).unwrap();
    assert_eq!(host.call(9).unwrap(), 9);
    assert_out_of_budget("table.fill", &host.call(11).unwrap_err());
}

/// Modules that call each other have one budget, whichever of them loops.
#[test]
fn modules_share_the_budget() {
    let component = r#"(component
        (core module $inner
            (func (export "step") (param $i i32) (result i32) (local $k i32)
                (loop (local.set $k (i32.add (local.get $k) (i32.const 1))) (br_if 0 (i32.lt_u (local.get $k) (i32.const 100000))))
                (i32.add (local.get $i) (i32.const 1))))
        (core module $outer
            (import "inner" "step" (func $step (param i32) (result i32)))
            (import "wrong" "step" (func (param i32) (result i32)))
            (func (export "f") (param $n i32) (result i32) (local $i i32)
                (block (loop (br_if 1 (i32.eq (local.get $i) (local.get $n)))
                    (local.set $i (call $step (local.get $i))) (br 0)))
                (local.get $i)))
        (core instance $a (instantiate $inner))
        (core instance $b (instantiate $inner))
        (alias core export $b "step" (core func $step))
        (core instance $wrong (export "step" (func $step)))
        (core instance $o (instantiate $outer (with "inner" (instance $a)) (with "wrong" (instance $wrong))))
        (func (export "f") (param "n" u32) (result u32) (canon lift (core func $o "f"))))"#;
    let mut host = Host::new(&guard(component).unwrap()).unwrap();
    for _ in 0..100 {
        assert_eq!(host.call(1).unwrap(), 1);
    }
    assert_out_of_budget("modules", &host.call(100).unwrap_err());
}

#[test]
fn nested_components_are_guarded() {
    let inner = component(WORK[0].1).replacen("(component", "(component $inner", 1);
    let outer = format!(
        r#"(component {inner} (instance $i (instantiate $inner)) (alias export $i "f" (func $f)) (export "f" (func $f)))"#
    );
    let mut host = Host::new(&guard(&outer).unwrap()).unwrap();
    assert_eq!(host.call(1000).unwrap(), 1000);
    assert_out_of_budget("nested", &host.call(u32::MAX).unwrap_err());

    // A trusted one is left as it is.
    let inner = wat::parse_str(&inner).unwrap();
    let guard = Guard { budget: Some(BUDGET), memory: None };
    let bytes = guard.component(&wat::parse_str(&outer).unwrap(), &|part| part == inner).unwrap();
    assert_eq!(bytes, wat::parse_str(&outer).unwrap());
}

const LOOP: &str = "(loop (br 0))";

#[test]
fn start_of_a_module_has_a_budget() {
    let component = component(&format!(
        r#"(func $start {LOOP}) (start $start) (func (export "f") (param i32) (result i32) (local.get 0))"#
    ));
    let error = Host::new(&guard(&component).unwrap()).err().expect("the start loops");
    assert_out_of_budget("start", &error);
}

/// The canonical ABI calls these functions outside of the lifted one.
#[test]
fn allocation_and_post_return_have_a_budget() {
    for (realloc, post) in [(LOOP, ""), ("", LOOP)] {
        let component = format!(
            r#"(component
                (core module $m (memory (export "memory") 1)
                    (func (export "realloc") (param i32 i32 i32 i32) (result i32) {realloc} (i32.const 16))
                    (func (export "post") (param i32) {post})
                    (func (export "f") (param i32 i32) (result i32) (i32.const 0)))
                (core instance $i (instantiate $m))
                (func (export "f") (param "n" string) (result string)
                    (canon lift (core func $i "f") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))
                        (post-return (core func $i "post")))))"#
        );
        let mut host = Host::new(&guard(&component).unwrap()).unwrap();
        let f = host.instance.get_typed_func::<(&str,), (String,)>(&mut host.store, "f").unwrap();
        assert_out_of_budget("abi", &f.call(&mut host.store, ("text",)).unwrap_err());
    }
}

/// A destructor must not reset the counter: a loop could drop resources for ever.
#[test]
fn destructors_share_the_budget() {
    let component = r#"(component
        (core module $d (func (export "dtor") (param i32)))
        (core instance $d (instantiate $d))
        (type $r (resource (rep i32) (dtor (core func $d "dtor"))))
        (core func $new (canon resource.new $r))
        (core func $drop (canon resource.drop $r))
        (core module $m
            (import "r" "new" (func $new (param i32) (result i32)))
            (import "r" "drop" (func $drop (param i32)))
            (func (export "f") (param $n i32) (result i32) (local $i i32)
                (block (loop (br_if 1 (i32.eq (local.get $i) (local.get $n)))
                    (call $drop (call $new (i32.const 7)))
                    (local.set $i (i32.add (local.get $i) (i32.const 1))) (br 0)))
                (local.get $i))
            (func (export "make") (result i32) (call $new (i32.const 7))))
        (core instance $m (instantiate $m
            (with "r" (instance (export "new" (func $new)) (export "drop" (func $drop))))))
        (export $r2 "r" (type $r))
        (func (export "make") (result (own $r2)) (canon lift (core func $m "make")))
        (func (export "f") (param "n" u32) (result u32) (canon lift (core func $m "f"))))"#;
    let mut host = Host::new(&guard(component).unwrap()).unwrap();
    assert_eq!(host.call(100).unwrap(), 100);
    let make = host.instance.get_typed_func::<(), (ResourceAny,)>(&mut host.store, "make").unwrap();
    let (made,) = make.call(&mut host.store, ()).unwrap();
    made.resource_drop(&mut host.store).unwrap();
    assert_out_of_budget("destructors", &host.call(u32::MAX).unwrap_err());
}
