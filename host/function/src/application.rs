//! The components of an application, ready to be called.

use std::collections::BTreeMap;
use std::path::PathBuf;

use wasmtime::component::Linker;

use crate::compose::{ComposeError, Part, all_served, compose, is_named, named};
use crate::outbound::Allowed;
use crate::runtime::{Function, Runs, Runtime, RuntimeError, State};

/// What serves imports in the host: a part that it runs itself is not put into the component.
pub trait Serve {
    /// Whether it serves an import, by its name.
    fn serves(&self, import: &str) -> bool;

    /// Has a part serve an import.
    ///
    /// # Errors
    /// Why it can't.
    fn link(&self, linker: &mut Linker<State>, import: &str, part: &Part) -> Result<(), String>;

    /// Whether a component is one of the host's own, whose loops end as its own do.
    fn trusts(&self, component: &[u8]) -> bool;
}

/// Why a component of an application can't be called.
#[derive(Debug, thiserror::Error)]
pub enum ApplicationError {
    /// Its parts don't go together.
    #[error(transparent)]
    Compose(#[from] ComposeError),
    /// A part can't serve an import.
    #[error("{} can't serve {import}: {problem}", part.display())]
    Serve {
        /// The part.
        part: PathBuf,
        /// The import.
        import: String,
        /// Why.
        problem: String,
    },
    /// It can't be run.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// Makes a component ready with what serves its imports, each part by the name of an import; the version may be left
/// out. Parts that `host` does not serve are put into the component.
///
/// # Errors
/// When they don't go together; each by name.
pub fn function(
    runtime: &Runtime,
    socket: &Part,
    parts: Vec<(String, Part)>,
    host: &impl Serve,
    variables: BTreeMap<String, String>,
    allowed: Vec<Allowed>,
) -> Result<Function, ApplicationError> {
    let (served, plugs): (Vec<_>, Vec<_>) = parts.into_iter().partition(|(import, _)| host.serves(import));
    let component = if plugs.is_empty() {
        let runs = if host.trusts(&socket.bytes) { Runs::Unwatched } else { Runs::Watched };
        runtime.component(&socket.bytes, runs)?
    } else {
        let is_served = |import: &str| served.iter().any(|(wanted, _)| is_named(import, wanted));
        runtime.component(&compose(socket, &plugs, is_served)?, Runs::Watched)?
    };
    let imports = runtime.imports(&component);
    let mut linker = runtime.linker(&component)?;
    let mut linked = vec![];
    for (wanted, part) in &served {
        let import = named(socket, &imports, wanted)?;
        host.link(&mut linker, import, part).map_err(|problem| {
            let (part, import) = (part.path.clone(), import.clone());
            ApplicationError::Serve { part, import, problem }
        })?;
        linked.push(import);
    }
    all_served(socket, &imports, |import| linked.contains(&import))?;
    Ok(runtime.function(&component, &linker, variables, allowed)?)
}
