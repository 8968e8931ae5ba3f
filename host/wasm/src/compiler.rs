//! Compiles components within limits, and only once.

use wasmtime::Engine;
use wasmtime::component::Component;

use crate::code_cache::{CodeCache, Key};
use crate::compile_process::{CompileProcess, ProcessError};
use crate::complexity::{self, ComplexityError};

/// Compiles components, and keeps their code in a cache. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Compiler {
    cache: Option<CodeCache>,
    process: Option<CompileProcess>,
}

/// The origin of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It is part of the program. It is compiled in this process, without limits.
    BuiltIn,
    /// Anybody may have made it.
    Untrusted,
}

/// A component that can't be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// It is too complex.
    #[error(transparent)]
    Complexity(#[from] ComplexityError),
    /// The child process failed, or exceeded a limit.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// It is not a valid component.
    #[error("{0:#}")]
    Wasmtime(wasmtime::Error),
}

impl Compiler {
    /// Creates a compiler that compiles in this process. Without a cache, each start compiles every component.
    pub fn new(cache: Option<CodeCache>) -> Self {
        Self { cache, process: None }
    }

    /// Returns a compiler that compiles untrusted components in a child process.
    pub fn with_process(self, process: CompileProcess) -> Self {
        Self { process: Some(process), ..self }
    }

    /// Returns the child process that compiles untrusted components, if there is one.
    pub fn process(&self) -> Option<&CompileProcess> {
        self.process.as_ref()
    }

    /// Compiles a component, or loads its code from the cache. `profile` names the settings of `engine` for the
    /// [child process](crate::compile_process).
    ///
    /// # Errors
    /// If the component is invalid, or its compilation exceeds a limit.
    pub fn component(
        &self,
        engine: &Engine,
        profile: &str,
        component: &[u8],
        origin: Origin,
    ) -> Result<Component, CompileError> {
        let key = self.cache.as_ref().map(|cache| (cache, Key::new(component, engine)));
        if let Some((cache, key)) = &key
            && let Some(code) = cache.load(key)
        {
            match load(engine, &code) {
                Ok(component) => return Ok(component),
                Err(error) => cache.evict(key, &format!("{error:#}")),
            }
        }
        let code = self.compile(engine, profile, component, origin)?;
        if let Some((cache, key)) = &key {
            cache.store(key, &code);
        }
        load(engine, &code).map_err(CompileError::Wasmtime)
    }

    fn compile(
        &self,
        engine: &Engine,
        profile: &str,
        component: &[u8],
        origin: Origin,
    ) -> Result<Vec<u8>, CompileError> {
        if origin == Origin::Untrusted {
            complexity::check(component)?;
            if let Some(process) = &self.process {
                return Ok(process.compile(profile, component)?);
            }
        }
        engine.precompile_component(component).map_err(CompileError::Wasmtime)
    }
}

/// Loads code that a compiler of this program made.
fn load(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the code comes from the compiler of this process, from its child process, or from an entry of the
    // cache, which has the digest of the code that was stored.
    unsafe { Component::deserialize(engine, code) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPONENT: &str = "(component (core module (func (export \"f\") (result i32) (i32.const 7))))";

    #[test]
    fn damaged_entry_is_compiled_anew() {
        let folder = tempfile::tempdir().unwrap();
        let compiler = Compiler::new(Some(CodeCache::open(&folder.path().join("cache")).unwrap()));
        let engine = Engine::default();
        let component = wat::parse_str(COMPONENT).unwrap();
        let compile = || compiler.component(&engine, "test", &component, Origin::Untrusted).unwrap();
        compile();
        let entries = || std::fs::read_dir(folder.path().join("cache/code")).unwrap();
        let path = entries().next().unwrap().unwrap().path();
        let entry = std::fs::read(&path).unwrap();
        for position in (0..entry.len()).step_by(97) {
            let mut damaged = entry.clone();
            damaged[position] ^= 0x10;
            std::fs::write(&path, &damaged).unwrap();
            compile();
            assert!(std::fs::read(&path).unwrap() == entry, "byte {position}");
        }
        assert_eq!(entries().count(), 1);
    }

    #[test]
    fn complexity_is_checked_for_untrusted_components_only() {
        let component = wat::parse_str(format!("(component {})", "(core module)".repeat(1001))).unwrap();
        let compile = |origin| Compiler::default().component(&Engine::default(), "test", &component, origin);
        let error = compile(Origin::Untrusted).unwrap_err().to_string();
        assert!(error.contains("more than 1000 modules"), "{error}");
        let error = compile(Origin::BuiltIn).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(!error.contains("more than 1000 modules"), "{error}");
    }
}
