//! Guarded components of random modules return what they returned before.

mod random;

use logship_guard::Guard;
use random::Random;
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store, Trap};

/// The modules of a test. Each takes some milliseconds to compile.
const MODULES: u64 = 120;

/// Returns the results of some calls of `f`. After a trap, there are none.
fn results(engine: &Engine, component: &[u8]) -> Vec<Result<u32, Option<Trap>>> {
    let component = Component::new(engine, component).unwrap();
    let mut store = Store::new(engine, ());
    let instance = Linker::new(engine).instantiate(&mut store, &component).unwrap();
    let f = instance.get_typed_func::<(u32,), (u32,)>(&mut store, "f").unwrap();
    let mut results = vec![];
    for n in [0, 1, 2, 7, 40, u32::MAX] {
        let result = f.call(&mut store, (n,)).map(|(result,)| result);
        results.push(result.map_err(|error| error.downcast_ref().copied()));
        if results.last().is_some_and(Result::is_err) {
            break;
        }
    }
    results
}

#[test]
fn random_modules_compute_the_same() {
    let engine = Engine::default();
    let guard = Guard { budget: Some(1 << 40), memory: None };
    let (mut calls, mut traps, mut values) = (0, 0, std::collections::BTreeSet::new());
    for seed in 0..MODULES {
        let text = random::component(&mut Random::new(seed));
        let component = wat::parse_str(&text).unwrap_or_else(|error| panic!("{seed}: {error}\n{text}"));
        let guarded =
            guard.component(&component, &|_| false).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let twice = guard.component(&guarded, &|_| false).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let expected = results(&engine, &component);
        assert_eq!(results(&engine, &guarded), expected, "{seed}\n{text}");
        assert_eq!(results(&engine, &twice), expected, "{seed}\n{text}");
        calls += expected.len();
        traps += expected.iter().filter(|result| result.is_err()).count();
        values.extend(expected.into_iter().flatten());
    }
    let counts = (calls, traps, values.len());
    assert!(calls > 300 && traps > 2 && values.len() > 100, "{counts:?}");
}

/// Each of these modules would run for ever with a budget of its own for each part.
#[test]
fn random_modules_end() {
    let engine = Engine::default();
    let guard = Guard { budget: Some(2_000_000), memory: None };
    for seed in 0..MODULES {
        let text = random::component(&mut Random::new(seed).endless());
        let guarded = guard.component(&wat::parse_str(&text).unwrap(), &|_| false).unwrap();
        let ended = results(&engine, &guarded);
        assert!(ended.last().is_some_and(Result::is_err), "{seed}: {ended:?}\n{text}");
    }
}
