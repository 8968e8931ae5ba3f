//! Converts core modules to components.
//!
//! Compilers without component support, such as those of Go, C and Zig, make core modules for WASI preview 1. With the
//! exports of wit-bindgen, such a module is nearly a stage. This module links an empty WASI into the component
//! (`wasi/preview1.wat`), with the same responses as [`wasi`](crate::wasi). So the component imports nothing and needs no
//! permission.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use crate::contract;
use crate::kind::Kind;

/// The import name of WASI preview 1.
const PREVIEW1: &str = "wasi_snapshot_preview1";

/// An empty WASI, as a core module.
const EMPTY: &str = include_str!("wasi/preview1.wat");

/// Why a module can't be converted.
#[derive(Debug, thiserror::Error)]
pub enum ComponentizeError {
    /// The input isn't a core module.
    #[error("it is {found}; a core module is needed, as compilers for wasm32 write it")]
    NotAModule {
        /// The format that was found.
        found: &'static str,
    },
    /// The module lacks an export, or has an import that nothing provides.
    #[error(
        "can't make a component of kind {kind} from it: {reason}. It must export the functions of the world `{kind}` in wit/, and may import only those and {PREVIEW1}"
    )]
    WrongInterface {
        /// The requested kind.
        kind: Kind,
        /// The reason.
        reason: String,
    },
}

/// Converts a core module with the exports of a stage kind to a component.
///
/// # Errors
/// Fails if the input is not a core module, or its exports or imports don't fit the kind.
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
    encode().map_err(|error| ComponentizeError::WrongInterface { kind, reason: format!("{error:#}") })
}

fn check(module: &[u8]) -> Result<(), ComponentizeError> {
    let found = match module {
        [] => "empty",
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => return Ok(()),
        [b'\0', b'a', b's', b'm', _, 0, 1, 0, ..] => "a component already",
        [b'\0', b'a', b's', b'm', ..] => "a truncated WebAssembly file, or one of an unknown version",
        _ => "not WebAssembly",
    };
    Err(ComponentizeError::NotAModule { found })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A renderer module without post-return, with an import.
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
    fn component_has_no_imports() {
        for import in ["", TIME] {
            let component = componentize(&renderer(import), Kind::Renderer).unwrap();
            let Ok(wit_component::DecodedWasm::Component(resolve, world)) = wit_component::decode(&component)
            else {
                panic!("not a component")
            };
            assert!(resolve.worlds[world].imports.is_empty(), "{import}");
        }
    }

    #[test]
    fn rejects_other_files_and_kinds() {
        let error_of = |module: &[u8], kind| componentize(module, kind).unwrap_err().to_string();
        assert!(error_of(b"", Kind::Encoder).starts_with("it is empty"));
        assert!(error_of(b"\x7fELF", Kind::Encoder).starts_with("it is not WebAssembly"));
        assert!(error_of(b"\0asm\x0d\0\x01\0", Kind::Encoder).starts_with("it is a component already"));
        assert!(error_of(b"\0asm\x01", Kind::Encoder).contains("a truncated WebAssembly file"));
        assert!(
            error_of(b"\0asm\x01\0\0\0", Kind::Encoder)
                .starts_with("can't make a component of kind encoder from it: ")
        );
        let other = error_of(&renderer(""), Kind::Encoder);
        assert!(other.contains("logship:encode/encoder@1.0.0"), "{other}");
        let import = r#"(import "env" "now" (func (result i64)))"#;
        let other = error_of(&renderer(import), Kind::Renderer);
        assert!(other.contains("env"), "{other}");
    }

    /// The empty WASI has all functions of WASI preview 1, including those that Go does not use.
    #[test]
    fn empty_wasi_has_every_function() {
        // The parameters of each function: i for 32 bits, l for 64. All but two functions return an errno.
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
        // Go's bindings call this function around allocations.
        assert_eq!(exports.remove(0), "adapter_monotonic_clock_set_paused i");
        assert_eq!(exports, FUNCTIONS.split(", ").map(str::to_owned).collect::<Vec<_>>());
    }

    const NO_RESULT: [&str; 2] = ["proc_exit", "adapter_monotonic_clock_set_paused"];

    /// A second call gets other random bytes and the same time.
    #[test]
    fn random_bytes_advance_and_clocks_stand_still() {
        let engine = wasmtime::Engine::default();
        let module = wasmtime::Module::new(&engine, wat::parse_str(EMPTY).unwrap()).unwrap();
        let call_twice = || {
            let mut store = wasmtime::Store::new(&engine, ());
            let memory = wasmtime::Memory::new(&mut store, wasmtime::MemoryType::new(1, None)).unwrap();
            let empty = wasmtime::Instance::new(&mut store, &module, &[memory.into()]).unwrap();
            let random = empty.get_typed_func::<(i32, i32), i32>(&mut store, "random_get").unwrap();
            let time = empty.get_typed_func::<(i32, i64, i32), i32>(&mut store, "clock_time_get").unwrap();
            let poll = empty.get_typed_func::<(i32, i32, i32, i32), i32>(&mut store, "poll_oneoff").unwrap();
            for address in [0, 100] {
                assert_eq!(random.call(&mut store, (address, 100)).unwrap(), 0);
                assert_eq!(time.call(&mut store, (1, 0, 200 + address)).unwrap(), 0);
            }
            assert_eq!(poll.call(&mut store, (0, 0, 0, 0)).unwrap(), 28);
            // A subscription to a clock with userdata 7.
            memory.write(&mut store, 1024, &[[7, 0, 0, 0, 0, 0, 0, 0, 0], [0; 9]].concat()).unwrap();
            assert_eq!(poll.call(&mut store, (1024, 2048, 1, 4096)).unwrap(), 0);
            assert_eq!(memory.data(&store)[2048..2080], [[7].as_slice(), &[0; 31]].concat());
            assert_eq!(memory.data(&store)[4096], 1);
            memory.data(&store)[..400].to_vec()
        };
        let found = call_twice();
        assert_ne!(found[..100], found[100..200]);
        assert_eq!((found[200], found[300]), (1, 1));
        assert_eq!(found, call_twice());
    }
}
