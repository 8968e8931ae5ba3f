//! Builds callable functions from the components of an application.

use std::collections::BTreeMap;
use std::path::PathBuf;

use wasmtime::component::Linker;

use crate::compose::{
    ComponentFile, ComposeError, check_all_resolved, compose, import_matches, resolve_import,
};
use crate::outbound::AllowedHost;
use crate::runtime::{DeadlineMode, Function, Runtime, RuntimeError, State};

/// The host's provider of imports. Dependencies that the host runs itself are not composed into the component.
pub trait ImportProvider {
    /// Returns true if the host provides the import with this name.
    fn provides(&self, import: &str) -> bool;

    /// Links an import to a dependency that the host runs.
    ///
    /// # Errors
    /// Fails if the dependency can't provide the import, with the reason.
    fn link(
        &self,
        linker: &mut Linker<State>,
        import: &str,
        dependency: &ComponentFile,
    ) -> Result<(), String>;

    /// Returns true if a component is built in and needs no deadline.
    fn is_trusted(&self, component: &[u8]) -> bool;
}

/// A failed preparation of an application's component.
#[derive(Debug, thiserror::Error)]
pub enum ApplicationError {
    /// The composition failed.
    #[error(transparent)]
    Compose(#[from] ComposeError),
    /// A dependency can't provide an import.
    #[error("{} can't provide {import}: {problem}", dependency.display())]
    Dependency {
        /// The dependency's file.
        dependency: PathBuf,
        /// The import.
        import: String,
        /// The reason.
        problem: String,
    },
    /// The component can't be compiled or linked.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// Builds a callable function from a component and its dependencies. Each dependency has the name of the import that it
/// provides, with or without the version. Dependencies that `host` doesn't run are composed into the component.
///
/// # Errors
/// Fails if the components can't be composed, compiled or linked. The error names the file.
pub fn function(
    runtime: &Runtime,
    socket: &ComponentFile,
    dependencies: Vec<(String, ComponentFile)>,
    host: &impl ImportProvider,
    variables: BTreeMap<String, String>,
    allowed: Vec<AllowedHost>,
) -> Result<Function, ApplicationError> {
    let (linked, plugs): (Vec<_>, Vec<_>) =
        dependencies.into_iter().partition(|(import, _)| host.provides(import));
    let component = if plugs.is_empty() {
        let mode = if host.is_trusted(&socket.bytes) { DeadlineMode::None } else { DeadlineMode::Epoch };
        runtime.component(&socket.bytes, mode)?
    } else {
        let is_linked = |import: &str| linked.iter().any(|(wanted, _)| import_matches(import, wanted));
        runtime.component(&compose(socket, &plugs, is_linked)?, DeadlineMode::Epoch)?
    };
    let imports = runtime.imports(&component);
    let mut linker = runtime.linker(&component)?;
    let mut linked_imports = vec![];
    for (wanted, dependency) in &linked {
        let import = resolve_import(socket, &imports, wanted)?;
        host.link(&mut linker, import, dependency).map_err(|problem| {
            let (dependency, import) = (dependency.path.clone(), import.clone());
            ApplicationError::Dependency { dependency, import, problem }
        })?;
        linked_imports.push(import);
    }
    check_all_resolved(socket, &imports, |import| linked_imports.contains(&import))?;
    Ok(runtime.function(&component, &linker, variables, allowed)?)
}
