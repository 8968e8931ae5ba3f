//! Memories and tables get a maximum, and components that can't be guarded are rejected.

use logship_guard::{Guard, GuardError};
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store};

const GUARD: Guard = Guard { budget: Some(1_000_000), memory: Some(1 << 20) };

fn rejected(text: &str) -> String {
    GUARD.component(&wat::parse_str(text).unwrap(), &|_| false).expect_err(text).to_string()
}

/// Returns the result of `f` in a component with a module.
fn call(guard: Guard, module: &str, n: u32) -> u32 {
    let text = format!(
        r#"(component (core module $m {module}) (core instance $i (instantiate $m))
            (func (export "f") (param "n" u32) (result u32) (canon lift (core func $i "f"))))"#
    );
    call_component(guard, &text, n)
}

/// Returns the result of a component's `f`.
fn call_component(guard: Guard, text: &str, n: u32) -> u32 {
    let component = guard.component(&wat::parse_str(text).unwrap(), &|_| false).unwrap();
    let engine = Engine::default();
    let mut store = Store::new(&engine, ());
    let component = Component::new(&engine, component).unwrap();
    let instance = Linker::new(&engine).instantiate(&mut store, &component).unwrap();
    let f = instance.get_typed_func::<(u32,), (u32,)>(&mut store, "f").unwrap();
    f.call(&mut store, (n,)).unwrap().0
}

#[test]
fn memory_grows_to_its_maximum_only() {
    let failed = u32::MAX;
    for guard in [GUARD, Guard { budget: None, ..GUARD }] {
        for memory in ["(memory 1)", "(memory 1 65536)"] {
            let module = format!(
                r#"{memory} (func (export "f") (param i32) (result i32) (memory.grow (local.get 0)))"#
            );
            assert_eq!(call(guard, &module, 15), 1);
            assert_eq!(call(guard, &module, 16), failed);
        }
        let smaller =
            r#"(memory 1 2) (func (export "f") (param i32) (result i32) (memory.grow (local.get 0)))"#;
        assert_eq!(call(guard, smaller, 2), failed);
    }
}

#[test]
fn table_grows_to_its_maximum_only() {
    let module = r#"(table 1 funcref)
        (func (export "f") (param i32) (result i32) (table.grow (ref.null func) (local.get 0)))"#;
    let guard = Guard { budget: Some(1 << 40), ..GUARD };
    assert_eq!(call(guard, module, 1000), 1);
    assert_eq!(call(guard, module, 1 << 20), u32::MAX);
}

/// Another module could grow it.
#[test]
fn table_of_module_without_functions_grows_to_its_maximum_only() {
    let component = r#"(component
        (core module $t (table (export "t") 1 funcref))
        (core module $m
            (import "t" "t" (table 1 funcref))
            (func (export "f") (param i32) (result i32) (table.grow (ref.null func) (local.get 0))))
        (core instance $t (instantiate $t))
        (core instance $i (instantiate $m (with "t" (instance $t))))
        (func (export "f") (param "n" u32) (result u32) (canon lift (core func $i "f"))))"#;
    for memory in [GUARD.memory, None] {
        let guard = Guard { budget: Some(1 << 40), memory };
        assert_eq!(call_component(guard, component, 1000), 1);
        assert_eq!(call_component(guard, component, 1 << 20), u32::MAX);
    }
}

#[test]
fn rejects_memory_that_is_too_large_at_the_start() {
    let error = rejected("(component (core module (memory 17)))");
    assert_eq!(error, "it starts with 2 MiB of memory and may have 1: raise the maximum");
}

#[test]
fn rejects_proposals_that_the_guard_does_not_know() {
    for (module, words) in [
        ("(memory 1 1 shared)", "threads"),
        ("(memory i64 1)", "memory64"),
        ("(type (array i8))", "gc"),
        ("(func try catch_all end)", "legacy"),
    ] {
        let error = rejected(&format!("(component (core module {module}))"));
        assert!(error.starts_with("it can't be guarded: ") && error.contains(words), "{error}");
    }
}

#[test]
fn rejects_components_that_hide_their_calls() {
    let hidden = r#"(component
        (core module $m (func (export "f") (result i32) (i32.const 0)))
        (core module $n (import "m" "f" (func (result i32))))
        (core instance $i (instantiate $m))
        (alias core export $i "f" (core func $f))
        (core instance $n (instantiate $n (with "m" (instance (export "f" (func $f))))))
        (func (export "f") (result u32) (canon lift (core func $f))))"#;
    assert!(rejected(hidden).contains("calls a lifted function itself"));
    // Allocations for a stream's elements would reset the counter.
    let reading = r#"(component
        (core module $m (memory (export "m") 1)
            (func (export "f") (param i32 i32 i32 i32) (result i32) (i32.const 0)))
        (core instance $i (instantiate $m))
        (alias core export $i "f" (core func $f))
        (alias core export $i "m" (core memory $memory))
        (type $strings (stream string))
        (core func (canon stream.read $strings async (memory $memory) (realloc $f)))
        (func (export "f") (param "a" u32) (param "b" u32) (param "c" u32) (param "d" u32) (result u32)
            (canon lift (core func $f))))"#;
    assert!(rejected(reading).contains("calls a lifted function itself"));
    let passed = "(component (core module $m) (component (alias outer 1 $m (core module))))";
    assert!(rejected(passed).contains("passes modules"));
    let exported = r#"(component (core module $m) (export "m" (core module $m)))"#;
    assert!(rejected(exported).contains("passes modules"));
}

#[test]
fn rejects_other_files() {
    let module = wat::parse_str("(module)").unwrap();
    let component = wat::parse_str(r#"(component (core module (func (loop (br 0)))))"#).unwrap();
    for bytes in [&b""[..], b"\x7fELF", &module] {
        let error = GUARD.component(bytes, &|_| false).unwrap_err();
        assert_eq!(error, GuardError::Invalid("it is not a WebAssembly component".into()));
    }
    for end in 8..component.len() {
        assert!(GUARD.component(&component[..end], &|_| false).is_err() || end < 9, "{end}");
    }
    // Changed bytes are rejected, or make another component: nothing panics.
    for place in 8..component.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut changed = component.clone();
            changed[place] = value;
            _ = GUARD.component(&changed, &|_| false);
        }
    }
}
