//! A component and what serves its imports, as one component: what Spin does with the dependencies of `spin.toml`.

use std::path::{Path, PathBuf};

use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions, PackageId};

/// A component file.
#[derive(Debug, Clone)]
pub struct Part {
    /// Where it is from, for messages.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Part {
    /// Reads a file.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn read(path: &Path) -> Result<Self, ComposeError> {
        let bytes =
            std::fs::read(path).map_err(|source| ComposeError::File { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), bytes })
    }
}

/// Why components don't go together.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// A file can't be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is no component.
    #[error("{}: this is no WebAssembly component: {problem}", path.display())]
    NoComponent {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// There is no such import to serve.
    #[error("{} imports no {import}; it imports {}", socket.display(), known.join(", "))]
    NoImport {
        /// The component.
        socket: PathBuf,
        /// What was to be served.
        import: String,
        /// What it imports, besides WASI.
        known: Vec<String>,
    },
    /// What shall serve an import does not have it.
    #[error("{} can't serve {import}: it exports {}", plug.display(), known.join(", "))]
    NoExport {
        /// The component that shall serve.
        plug: PathBuf,
        /// The import.
        import: String,
        /// What it exports.
        known: Vec<String>,
    },
    /// What shall serve an import has it in another form.
    #[error("{} can't serve {import}, which has the same name and another form there: {problem}", plug.display())]
    OtherForm {
        /// The component that shall serve.
        plug: PathBuf,
        /// The import.
        import: String,
        /// The difference.
        problem: String,
    },
    /// Nothing serves an import.
    #[error("{} imports {import}, and nothing serves it: name a component for it", socket.display())]
    Unserved {
        /// The component.
        socket: PathBuf,
        /// The import.
        import: String,
    },
    /// The whole is no component after all: a defect of this program, or of a component that passed for one.
    #[error("the components can't be put together: {0}")]
    Graph(String),
}

/// Puts `plugs` into `socket`, each for the import it is named for; the version may be left out where it is clear. The
/// whole exports what the socket does, and imports what is served by nobody: nothing but WASI, what the platform
/// has, and what `is_served` says that the host serves.
///
/// # Errors
/// When a part is no component, or they don't go together; each by name.
pub fn compose(
    socket: &Part,
    plugs: &[(String, Part)],
    is_served: impl Fn(&str) -> bool,
) -> Result<Vec<u8>, ComposeError> {
    let mut graph = CompositionGraph::new();
    let socket_id = register(&mut graph, "socket", socket)?;
    let imports = names(&graph, socket_id, true);
    let whole = graph.instantiate(socket_id);
    let mut served = vec![];
    for (number, (wanted, plug)) in plugs.iter().enumerate() {
        let import = named(socket, &imports, wanted)?;
        let plug_id = register(&mut graph, &format!("plug{number}"), plug)?;
        let exports = names(&graph, plug_id, false);
        if !exports.contains(import) {
            let (plug, import) = (plug.path.clone(), import.clone());
            return Err(ComposeError::NoExport { plug, import, known: exports });
        }
        let instance = graph.instantiate(plug_id);
        let export = graph
            .alias_instance_export(instance, import)
            .map_err(|error| ComposeError::Graph(error.to_string()))?;
        graph.set_instantiation_argument(whole, import, export).map_err(|error| ComposeError::OtherForm {
            plug: plug.path.clone(),
            import: import.clone(),
            problem: chain(&error),
        })?;
        served.push(import);
    }
    all_served(socket, &imports, |import| served.contains(&import) || is_served(import))?;
    for export in names(&graph, socket_id, false) {
        let node = graph
            .alias_instance_export(whole, &export)
            .map_err(|error| ComposeError::Graph(error.to_string()))?;
        graph.export(node, &export).map_err(|error| ComposeError::Graph(error.to_string()))?;
    }
    graph.encode(EncodeOptions::default()).map_err(|error| ComposeError::Graph(chain(&error)))
}

pub(crate) fn register(
    graph: &mut CompositionGraph,
    name: &str,
    part: &Part,
) -> Result<PackageId, ComposeError> {
    let no_component = |problem: String| ComposeError::NoComponent { path: part.path.clone(), problem };
    let package = Package::from_bytes(name, None, part.bytes.clone(), graph.types_mut())
        .map_err(|error| no_component(format!("{error:#}")))?;
    graph.register_package(package).map_err(|error| no_component(error.to_string()))
}

/// What a package imports, or exports.
pub(crate) fn names(graph: &CompositionGraph, package: PackageId, imports: bool) -> Vec<String> {
    let world = &graph.types()[graph[package].ty()];
    let all = if imports { &world.imports } else { &world.exports };
    all.keys().cloned().collect()
}

/// The import that is meant: by its whole name, or without the version.
pub(crate) fn named<'a>(
    socket: &Part,
    imports: &'a [String],
    wanted: &str,
) -> Result<&'a String, ComposeError> {
    imports.iter().find(|import| is_named(import, wanted)).ok_or_else(|| ComposeError::NoImport {
        socket: socket.path.clone(),
        import: wanted.to_owned(),
        known: imports.iter().filter(|import| !is_platform(import)).cloned().collect(),
    })
}

/// Sees to it that something serves each import.
pub(crate) fn all_served<'a>(
    socket: &Part,
    imports: &'a [String],
    is_served: impl Fn(&'a String) -> bool,
) -> Result<(), ComposeError> {
    match imports.iter().find(|import| !is_platform(import) && !is_served(import)) {
        None => Ok(()),
        Some(import) => Err(ComposeError::Unserved { socket: socket.path.clone(), import: import.clone() }),
    }
}

/// Whether an import is meant.
pub(crate) fn is_named(import: &str, wanted: &str) -> bool {
    import == wanted || import.split_once('@').is_some_and(|(name, _)| name == wanted)
}

/// What needs no component: the platform has it, or it is types only.
fn is_platform(import: &str) -> bool {
    ["wasi:", "spin:", "fermyon:", "logship:batch/"].iter().any(|prefix| import.starts_with(prefix))
}

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
