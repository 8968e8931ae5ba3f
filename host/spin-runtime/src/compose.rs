//! Composes a component with the components that provide its imports, as Spin does with dependencies in `spin.toml`.
//!
//! As in WAC, the composed component is the socket, and its dependencies are plugs.

use std::path::{Path, PathBuf};

use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions, PackageId};

/// A component file.
#[derive(Debug, Clone)]
pub struct ComponentFile {
    /// The file's path, for error messages.
    pub path: PathBuf,
    /// The file's bytes.
    pub bytes: Vec<u8>,
}

impl ComponentFile {
    /// Reads a file.
    ///
    /// # Errors
    /// Fails if the file can't be read.
    pub fn read(path: &Path) -> Result<Self, ComposeError> {
        let failed = |source| ComposeError::File { path: path.to_owned(), source };
        // A pipe or a device may never end.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(failed(std::io::Error::other("not a file")));
        }
        let bytes = std::fs::read(path).map_err(failed)?;
        Ok(Self { path: path.to_owned(), bytes })
    }
}

/// A failed composition.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// A file can't be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
    /// A file is not a component.
    #[error("{}: not a WebAssembly component: {problem}", path.display())]
    NotAComponent {
        /// The file.
        path: PathBuf,
        /// The error.
        problem: String,
    },
    /// The component doesn't have the import.
    #[error("{} doesn't import {import}; its imports are {}", socket.display(), known.join(", "))]
    MissingImport {
        /// The component.
        socket: PathBuf,
        /// The requested import.
        import: String,
        /// The component's imports, except those of the platform.
        known: Vec<String>,
    },
    /// The dependency doesn't export the interface.
    #[error("{} doesn't export {import}; its exports are {}", plug.display(), known.join(", "))]
    MissingExport {
        /// The dependency.
        plug: PathBuf,
        /// The import.
        import: String,
        /// The dependency's exports.
        known: Vec<String>,
    },
    /// The dependency exports the interface with other types.
    #[error("{} can't provide {import}: it exports the interface with other types: {problem}", plug.display())]
    TypeMismatch {
        /// The dependency.
        plug: PathBuf,
        /// The import.
        import: String,
        /// The difference.
        problem: String,
    },
    /// No dependency provides an import.
    #[error("{} imports {import}, but no dependency provides it: add a dependency for it", socket.display())]
    UnresolvedImport {
        /// The component.
        socket: PathBuf,
        /// The import.
        import: String,
    },
    /// The composed component is invalid: a bug in this program, or in an input component.
    #[error("the components can't be composed: {0}")]
    Graph(String),
}

/// Composes `socket` with `plugs`. Each plug has the name of the import that it provides, with or without the version.
///
/// The composed component has the socket's exports. Its imports are those that no plug provides: interfaces of the
/// platform, and interfaces for which `is_served` returns true because the host provides them.
///
/// # Errors
/// Fails if a file is not a component or an import can't be resolved. The error names the file.
pub fn compose(
    socket: &ComponentFile,
    plugs: &[(String, ComponentFile)],
    is_served: impl Fn(&str) -> bool,
) -> Result<Vec<u8>, ComposeError> {
    let mut graph = CompositionGraph::new();
    let socket_id = register(&mut graph, "socket", socket)?;
    let imports = interface_names(&graph, socket_id, true);
    let socket_instance = graph.instantiate(socket_id);
    let mut served = vec![];
    for (number, (wanted, plug)) in plugs.iter().enumerate() {
        let import = resolve_import(socket, &imports, wanted)?;
        let plug_id = register(&mut graph, &format!("plug{number}"), plug)?;
        let exports = interface_names(&graph, plug_id, false);
        if !exports.contains(import) {
            let (plug, import) = (plug.path.clone(), import.clone());
            return Err(ComposeError::MissingExport { plug, import, known: exports });
        }
        let instance = graph.instantiate(plug_id);
        let export = graph
            .alias_instance_export(instance, import)
            .map_err(|error| ComposeError::Graph(error.to_string()))?;
        graph.set_instantiation_argument(socket_instance, import, export).map_err(|error| {
            ComposeError::TypeMismatch {
                plug: plug.path.clone(),
                import: import.clone(),
                problem: chain(&error),
            }
        })?;
        served.push(import);
    }
    check_all_resolved(socket, &imports, |import| served.contains(&import) || is_served(import))?;
    for export in interface_names(&graph, socket_id, false) {
        let node = graph
            .alias_instance_export(socket_instance, &export)
            .map_err(|error| ComposeError::Graph(error.to_string()))?;
        graph.export(node, &export).map_err(|error| ComposeError::Graph(error.to_string()))?;
    }
    graph.encode(EncodeOptions::default()).map_err(|error| ComposeError::Graph(chain(&error)))
}

/// The names of a component's imports and exports.
pub(crate) struct Interfaces {
    pub(crate) imports: Vec<String>,
    pub(crate) exports: Vec<String>,
}

impl Interfaces {
    /// Reads the names.
    pub(crate) fn of(file: &ComponentFile) -> Result<Self, ComposeError> {
        let mut graph = CompositionGraph::new();
        let package = register(&mut graph, "component", file)?;
        let names = |imports| interface_names(&graph, package, imports);
        Ok(Self { imports: names(true), exports: names(false) })
    }
}

pub(crate) fn register(
    graph: &mut CompositionGraph,
    name: &str,
    file: &ComponentFile,
) -> Result<PackageId, ComposeError> {
    let not_a_component = |problem: String| ComposeError::NotAComponent { path: file.path.clone(), problem };
    let package = Package::from_bytes(name, None, file.bytes.clone(), graph.types_mut())
        .map_err(|error| not_a_component(format!("{error:#}")))?;
    graph.register_package(package).map_err(|error| not_a_component(error.to_string()))
}

/// Returns the names of a package's imports or exports.
pub(crate) fn interface_names(graph: &CompositionGraph, package: PackageId, imports: bool) -> Vec<String> {
    let world = &graph.types()[graph[package].ty()];
    let all = if imports { &world.imports } else { &world.exports };
    all.keys().cloned().collect()
}

/// Finds an import by its full name, or by its name without the version.
pub(crate) fn resolve_import<'a>(
    socket: &ComponentFile,
    imports: &'a [String],
    wanted: &str,
) -> Result<&'a String, ComposeError> {
    imports.iter().find(|import| import_matches(import, wanted)).ok_or_else(|| ComposeError::MissingImport {
        socket: socket.path.clone(),
        import: wanted.to_owned(),
        known: imports.iter().filter(|import| !is_platform(import)).cloned().collect(),
    })
}

/// Checks that each import is provided by the platform, a plug or the host.
pub(crate) fn check_all_resolved<'a>(
    socket: &ComponentFile,
    imports: &'a [String],
    is_served: impl Fn(&'a String) -> bool,
) -> Result<(), ComposeError> {
    match unresolved(imports, is_served).next() {
        None => Ok(()),
        Some(import) => {
            Err(ComposeError::UnresolvedImport { socket: socket.path.clone(), import: import.clone() })
        }
    }
}

/// Returns the imports that neither the platform, a plug nor the host provides.
pub(crate) fn unresolved<'a>(
    imports: &'a [String],
    is_served: impl Fn(&'a String) -> bool,
) -> impl Iterator<Item = &'a String> {
    imports.iter().filter(move |import| !is_platform(import) && !is_served(import))
}

/// Returns true if `wanted` is the import's name, with or without the version, or its package, as in Spin.
pub(crate) fn import_matches(import: &str, wanted: &str) -> bool {
    let is_part = |end: char| import.split_once(end).is_some_and(|(name, _)| name == wanted);
    import == wanted || is_part('@') || is_part('/')
}

/// Returns true if an import needs no plug: the platform provides it, or it has only types.
fn is_platform(import: &str) -> bool {
    ["wasi:", "spin:", "fermyon:", "logship:batch/"].iter().any(|prefix| import.starts_with(prefix))
}

/// Formats an error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
