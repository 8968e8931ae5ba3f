//! Components of core modules.
//!
//! Compilers that know nothing of components make core modules for WASI preview 1: Go's, and those of C and Zig. With the exports that
//! wit-bindgen gives them they are nearly stages. What they ask WASI is answered by an empty one that becomes a
//! part of the component (`wasi/preview1.wat`, whose answers are those of [`wasi`](crate::wasi)): the component imports
//! nothing, and nobody has to allow it anything.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use crate::contract;
use crate::stage::Kind;

/// What the module imports WASI by.
const PREVIEW1: &str = "wasi_snapshot_preview1";

/// An empty WASI, as a core module.
const EMPTY: &str = include_str!("wasi/preview1.wat");

/// Why no component can be made of a module.
#[derive(Debug, thiserror::Error)]
pub enum ComponentizeError {
    /// It isn't a core module.
    #[error("it is {found}, and what is wanted is a core module, as compilers for wasm32 write them")]
    NoModule {
        /// What it is.
        found: &'static str,
    },
    /// It lacks an export, or imports what nothing answers.
    #[error(
        "no {kind} can be made of it: {reason}. It has to export what the bindings to wit/ have for the world `{kind}`, and may import nothing but them and {PREVIEW1}"
    )]
    Misfit {
        /// The kind that was wanted.
        kind: Kind,
        /// What is wrong.
        reason: String,
    },
}

/// The component of a core module that has the exports of a kind of stage.
///
/// # Errors
/// When it is no module, or not one of such a stage.
pub fn componentize(module: &[u8], kind: Kind) -> Result<Vec<u8>, ComponentizeError> {
    check(module)?;
    let (resolve, package) = contract::resolve();
    let encode = || {
        let world = resolve.select_world(&[package], Some(&kind.to_string()))?;
        let mut module = module.to_vec();
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
        let empty = wat::parse_str(EMPTY)?;
        ComponentEncoder::default().validate(true).module(&module)?.adapter(PREVIEW1, &empty)?.encode()
    };
    encode().map_err(|error| ComponentizeError::Misfit { kind, reason: format!("{error:#}") })
}

fn check(module: &[u8]) -> Result<(), ComponentizeError> {
    let found = match module {
        [] => "empty",
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => return Ok(()),
        [b'\0', b'a', b's', b'm', ..] => "a component already",
        _ => "no WebAssembly",
    };
    Err(ComponentizeError::NoModule { found })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A renderer without its post-return, which asks for the time, and whatever else.
    fn renderer(import: &str) -> Vec<u8> {
        let text = format!(
            r#"(module {import}
                (memory (export "memory") 1)
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
                (func (export "logship:object-path/renderer@1.0.0#describe") (result i32) unreachable)
                (func (export "logship:object-path/renderer@1.0.0#render") (param i32) (result i32) unreachable))"#
        );
        wat::parse_str(text).unwrap()
    }

    const TIME: &str =
        r#"(import "wasi_snapshot_preview1" "clock_time_get" (func (param i32 i64 i32) (result i32)))"#;

    #[test]
    fn a_component_imports_nothing() {
        for import in ["", TIME] {
            let component = componentize(&renderer(import), Kind::Renderer).unwrap();
            let Ok(wit_component::DecodedWasm::Component(resolve, world)) = wit_component::decode(&component)
            else {
                panic!("no component")
            };
            assert!(resolve.worlds[world].imports.is_empty(), "{import}");
        }
    }

    #[test]
    fn what_is_no_module_of_the_kind_is_refused() {
        let refused = |module: &[u8], kind| componentize(module, kind).unwrap_err().to_string();
        assert!(refused(b"", Kind::Encoder).starts_with("it is empty"));
        assert!(refused(b"\x7fELF", Kind::Encoder).starts_with("it is no WebAssembly"));
        assert!(refused(b"\0asm\x0d\0\x01\0", Kind::Encoder).starts_with("it is a component already"));
        assert!(refused(b"\0asm\x01\0\0\0", Kind::Encoder).starts_with("no encoder can be made of it: "));
        let other = refused(&renderer(""), Kind::Encoder);
        assert!(other.contains("logship:encode/encoder@1.0.0"), "{other}");
        let import = r#"(import "env" "now" (func (result i64)))"#;
        let other = refused(&renderer(import), Kind::Renderer);
        assert!(other.contains("env"), "{other}");
    }

    /// All that WASI preview 1 has is answered, also what Go does not ask.
    #[test]
    fn the_empty_wasi_has_every_function() {
        let empty = wat::parse_str(EMPTY).unwrap();
        let module = wasmtime::Module::new(&wasmtime::Engine::default(), &empty).unwrap();
        let exported: Vec<_> = module.exports().map(|export| export.name().to_owned()).collect();
        assert_eq!(module.imports().map(|import| import.name().to_owned()).collect::<Vec<_>>(), ["memory"]);
        // Those of the specification, and two by which its adapter is told of garbage collection and of a new stack.
        assert_eq!(exported.len(), 46 + 1);
    }
}
