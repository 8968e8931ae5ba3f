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
        let empty = wat::parse_str(EMPTY).expect("the empty WASI is a module");
        ComponentEncoder::default().validate(true).module(&module)?.adapter(PREVIEW1, &empty)?.encode()
    };
    encode().map_err(|error| ComponentizeError::Misfit { kind, reason: format!("{error:#}") })
}

fn check(module: &[u8]) -> Result<(), ComponentizeError> {
    let found = match module {
        [] => "empty",
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => return Ok(()),
        [b'\0', b'a', b's', b'm', _, 0, 1, 0, ..] => "a component already",
        [b'\0', b'a', b's', b'm', ..] => "of a version of WebAssembly that is not known, or cut off",
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
        assert!(refused(b"\0asm\x01", Kind::Encoder).contains("or cut off"));
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
        // The parameters of each, all of which return an errno but two: i for 32 bits, l for 64.
        const FUNCTIONS: &str = "args_get ii, args_sizes_get ii, clock_res_get ii, clock_time_get ili, environ_get ii, \
            environ_sizes_get ii, fd_advise illi, fd_allocate ill, fd_close i, fd_datasync i, fd_fdstat_get ii, \
            fd_fdstat_set_flags ii, fd_fdstat_set_rights ill, fd_filestat_get ii, fd_filestat_set_size il, \
            fd_filestat_set_times illi, fd_pread iiili, fd_prestat_dir_name iii, fd_prestat_get ii, fd_pwrite iiili, \
            fd_read iiii, fd_readdir iiili, fd_renumber ii, fd_seek ilii, fd_sync i, fd_tell ii, fd_write iiii, \
            path_create_directory iii, path_filestat_get iiiii, path_filestat_set_times iiiilli, path_link iiiiiii, \
            path_open iiiiillii, path_readlink iiiiii, path_remove_directory iii, path_rename iiiiii, \
            path_symlink iiiii, path_unlink_file iii, poll_oneoff iiii, proc_exit i, proc_raise i, random_get ii, \
            sched_yield , sock_accept iii, sock_recv iiiiii, sock_send iiiii, sock_shutdown ii";
        let engine = wasmtime::Engine::default();
        let module = wasmtime::Module::new(&engine, wat::parse_str(EMPTY).unwrap()).unwrap();
        assert_eq!(module.imports().map(|import| import.name().to_owned()).collect::<Vec<_>>(), ["memory"]);
        let letter = |parameter: wasmtime::ValType| if parameter.is_i64() { 'l' } else { 'i' };
        let exports = module.exports().map(|export| {
            let function = export.ty().unwrap_func().clone();
            assert_eq!(function.results().len(), usize::from(!NO_RESULT.contains(&export.name())));
            format!("{} {}", export.name(), function.params().map(letter).collect::<String>())
        });
        let mut exports: Vec<_> = exports.collect();
        exports.sort();
        // By this one Go's bindings announce that they allocate.
        assert_eq!(exports.remove(0), "adapter_monotonic_clock_set_paused i");
        assert_eq!(exports, FUNCTIONS.split(", ").map(str::to_owned).collect::<Vec<_>>());
    }

    const NO_RESULT: [&str; 2] = ["proc_exit", "adapter_monotonic_clock_set_paused"];

    /// What a module gets that asks twice: random bytes that differ, and a clock that does not.
    #[test]
    fn random_bytes_go_on_and_clocks_stand() {
        let engine = wasmtime::Engine::default();
        let module = wasmtime::Module::new(&engine, wat::parse_str(EMPTY).unwrap()).unwrap();
        let asked = || {
            let mut store = wasmtime::Store::new(&engine, ());
            let memory = wasmtime::Memory::new(&mut store, wasmtime::MemoryType::new(1, None)).unwrap();
            let empty = wasmtime::Instance::new(&mut store, &module, &[memory.into()]).unwrap();
            let random = empty.get_typed_func::<(i32, i32), i32>(&mut store, "random_get").unwrap();
            let time = empty.get_typed_func::<(i32, i64, i32), i32>(&mut store, "clock_time_get").unwrap();
            let poll = empty.get_typed_func::<(i32, i32, i32, i32), i32>(&mut store, "poll_oneoff").unwrap();
            for place in [0, 100] {
                assert_eq!(random.call(&mut store, (place, 100)).unwrap(), 0);
                assert_eq!(time.call(&mut store, (1, 0, 200 + place)).unwrap(), 0);
            }
            assert_eq!(poll.call(&mut store, (0, 0, 0, 0)).unwrap(), 28);
            // A subscription to a clock, of the userdata 7.
            memory.write(&mut store, 1024, &[[7, 0, 0, 0, 0, 0, 0, 0, 0], [0; 9]].concat()).unwrap();
            assert_eq!(poll.call(&mut store, (1024, 2048, 1, 4096)).unwrap(), 0);
            assert_eq!(memory.data(&store)[2048..2080], [[7].as_slice(), &[0; 31]].concat());
            assert_eq!(memory.data(&store)[4096], 1);
            memory.data(&store)[..400].to_vec()
        };
        let found = asked();
        assert_ne!(found[..100], found[100..200]);
        assert_eq!((found[200], found[300]), (1, 1));
        assert_eq!(found, asked());
    }
}
