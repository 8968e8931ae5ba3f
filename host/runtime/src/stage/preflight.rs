//! Checks before compilation: a component's imports and exports.
//!
//! A stranger's component is checked in the child process of the compiler, because decoding its types may take any memory
//! and time.

use std::collections::BTreeSet;

use logship_wasm::compile_process::ProcessError;
use serde::{Deserialize, Serialize};
use wit_component::{DecodedWasm, WitPrinter};
use wit_parser::{InterfaceId, PackageId, Resolve, World, WorldItem, WorldKey};

use crate::contract;
use crate::engine::Engine;
use crate::error::StageError;
use crate::kind::{ENCODER, INTERFACES, Interface, Kind, PACKER, RENDERER, VERSION, major};
use crate::wasi::is_wasi;

/// The only interface that a stage may import: it has types and no functions.
const TYPES: &str = "logship:batch/types";

/// The profile of the child process that checks a component.
pub const PROFILE: &str = "preflight";

/// The kind of a stage and its imports.
type Found = (Kind, Vec<String>);

/// The reason why a component is no stage of this contract.
#[derive(Debug, Serialize, Deserialize)]
enum Problem {
    Unreadable(String),
    Imports(Vec<String>),
    NotAStage(Vec<String>),
    Version { found: String, expected: String },
    Mismatch(Kind, String),
}

impl Problem {
    fn into_error(self, origin: &str) -> StageError {
        let origin = origin.to_owned();
        match self {
            Self::Unreadable(reason) => StageError::Unreadable { origin, reason },
            Self::Imports(imports) => StageError::Imports { origin, imports },
            Self::NotAStage(exports) => StageError::NotAStage { origin, exports },
            Self::Version { found, expected } => StageError::Version { origin, found, expected },
            Self::Mismatch(kind, difference) => StageError::Mismatch { origin, kind, difference },
        }
    }
}

/// Determines the kind of a stage and its imports, in the child process of the engine's compiler if it has one. Rejects
/// components that are not stages, implement another version of the contract, or import anything but WASI.
pub(super) fn kind(engine: &Engine, origin: &str, bytes: &[u8]) -> Result<Found, StageError> {
    let Some(child) = engine.check_process() else {
        return examine(bytes).map_err(|problem| problem.into_error(origin));
    };
    let checked = child.compile(PROFILE, bytes).map_err(|error| match error {
        // Of the compiler, the message would say something else.
        ProcessError::Memory(_) | ProcessError::Time(_) => {
            format!("reading its interface takes too much memory or time ({error})")
        }
        error => error.to_string(),
    });
    let report = checked.and_then(|report| {
        serde_json::from_slice::<Result<Found, Problem>>(&report).map_err(|error| error.to_string())
    });
    match report {
        Ok(result) => result.map_err(|problem| problem.into_error(origin)),
        Err(reason) => Err(StageError::unreadable(origin, reason)),
    }
}

/// Examines a component in the child process. Returns a report for the parent.
pub fn report(bytes: &[u8]) -> Vec<u8> {
    serde_json::to_vec(&examine(bytes)).unwrap_or_default()
}

fn examine(bytes: &[u8]) -> Result<Found, Problem> {
    let (resolve, world) = decode(bytes)?;
    let world = &resolve.worlds[world];
    let imports: BTreeSet<String> =
        world.imports.iter().flat_map(|(key, item)| callable_imports(&resolve, key, item)).collect();
    let imports: Vec<String> = imports.into_iter().collect();
    if !imports.iter().all(|import| is_wasi(import)) {
        return Err(Problem::Imports(imports));
    }
    let exported = exported(&resolve, world)?;
    let Some(kind) = kind_of(&exported) else {
        let exports = world.exports.keys().map(|key| resolve.name_world_key(key)).collect();
        return Err(Problem::NotAStage(exports));
    };
    let mut differences = exported.iter().filter_map(|(interface, id)| difference(interface, &resolve, *id));
    match differences.next() {
        None => Ok((kind, imports)),
        Some(difference) => Err(Problem::Mismatch(kind, difference)),
    }
}

/// Returns the kind of a stage that exports these interfaces.
fn kind_of(exported: &[(&Interface, InterfaceId)]) -> Option<Kind> {
    let exports = |wanted: &Interface| exported.iter().any(|(interface, _)| interface.name == wanted.name);
    if exports(&RENDERER) && (exports(&ENCODER) || exports(&PACKER)) {
        return Some(Kind::Pipeline);
    }
    exported.iter().find_map(|(interface, _)| interface.kind)
}

/// Returns the stage interfaces that the world exports.
fn exported(resolve: &Resolve, world: &World) -> Result<Vec<(&'static Interface, InterfaceId)>, Problem> {
    let mut exported = vec![];
    for (key, item) in &world.exports {
        let name = resolve.name_world_key(key);
        let (bare, version) = name.split_once('@').unwrap_or((&name, ""));
        let known = INTERFACES.iter().find(|interface| interface.name == bare);
        let (Some(interface), WorldItem::Interface { id, .. }) = (known, item) else { continue };
        if major(version) != major(VERSION) {
            let expected = format!("{bare}@{VERSION}");
            return Err(Problem::Version { found: name, expected });
        }
        exported.push((interface, *id));
    }
    Ok(exported)
}

fn decode(bytes: &[u8]) -> Result<(Resolve, wit_parser::WorldId), Problem> {
    let unreadable = |reason: &str| Err(Problem::Unreadable(reason.to_owned()));
    if !bytes.starts_with(b"\0asm") {
        let reason = if bytes.is_empty() { "it is empty" } else { "it is not WebAssembly" };
        return unreadable(reason);
    }
    if bytes.starts_with(b"\0asm\x01\0\0\0") {
        let reason = "it is a core module. Convert it to a component with `logship stage componentize`; for Rust, link with wasm-component-ld";
        return unreadable(reason);
    }
    match wit_component::decode(bytes) {
        Ok(DecodedWasm::Component(resolve, world)) => Ok((resolve, world)),
        Ok(DecodedWasm::WitPackage(..)) => unreadable("it is a WIT package and not a stage"),
        Err(error) => Err(Problem::Unreadable(format!("{error:#}"))),
    }
}

/// Returns the callable items of an import. Empty if it has only types.
fn callable_imports(resolve: &Resolve, key: &WorldKey, item: &WorldItem) -> Vec<String> {
    let name = resolve.name_world_key(key);
    match item {
        WorldItem::Interface { id, .. } => {
            let interface = &resolve.interfaces[*id];
            let resources = interface
                .types
                .values()
                .any(|id| matches!(resolve.types[*id].kind, wit_parser::TypeDefKind::Resource));
            let types_only = interface.functions.is_empty() && !resources;
            if types_only && name.starts_with(TYPES) { vec![] } else { vec![name] }
        }
        WorldItem::Function(_) => vec![name],
        WorldItem::Type { .. } => vec![],
    }
}

/// Returns the contract's items that the component's interface lacks, followed by those that it has instead,
/// one per line. `None` if nothing is missing. Additional items are harmless.
fn difference(interface: &Interface, found: &Resolve, id: InterfaceId) -> Option<String> {
    let (contract, packages) = contract(interface);
    let expected = packages.into_iter().flat_map(|package| items(&contract, package));
    let own = found.interfaces[id].package;
    let types = found
        .package_names
        .iter()
        .find(|(name, _)| TYPES.starts_with(&format!("{}:{}/", name.namespace, name.name)));
    let types = types.map(|(_, package)| *package).filter(|_| interface.takes_logs);
    let found: BTreeSet<String> =
        own.into_iter().chain(types).flat_map(|package| items(found, package)).collect();
    let expected: BTreeSet<String> = expected.collect();
    let missing: Vec<_> = expected.difference(&found).map(|item| format!("  - {item}")).collect();
    let instead = found.difference(&expected).map(|item| format!("  + {item}"));
    (!missing.is_empty()).then(|| missing.into_iter().chain(instead).collect::<Vec<_>>().join("\n"))
}

/// Returns the contract of an interface: its package, after the package of the batch types if it uses them.
fn contract(interface: &Interface) -> (Resolve, Vec<PackageId>) {
    let (resolve, _) = contract::resolve();
    let is_wanted =
        |name: &str| interface.name.starts_with(name) || interface.takes_logs && TYPES.starts_with(name);
    let packages = resolve.package_names.iter();
    let wanted = packages.filter(|(name, _)| is_wanted(&format!("{}:{}/", name.namespace, name.name)));
    let wanted = wanted.map(|(_, package)| *package).collect();
    (resolve, wanted)
}

/// Returns the package's items as WIT text, one per line and without comments. Their order is irrelevant.
fn items(resolve: &Resolve, package: PackageId) -> Vec<String> {
    let mut printer = WitPrinter::default();
    printer.emit_docs(false);
    if printer.print(resolve, package, &[]).is_err() {
        return vec![];
    }
    let text = printer.output.to_string();
    let lines = text.lines().map(|line| line.trim().trim_end_matches(['{', ' ']));
    let items = lines.filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()));
    // The minor version may differ, as long as the items exist.
    items.filter(|line| !line.starts_with("package ")).map(without_version).collect()
}

fn without_version(item: &str) -> String {
    match item.split_once('@') {
        Some((name, rest)) => {
            let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
            // Keep the dot between an interface and its used types.
            if rest.starts_with('{') { format!("{name}.{rest}") } else { format!("{name}{rest}") }
        }
        None => item.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::COMPRESSOR;

    #[test]
    fn contract_matches_itself() {
        for interface in &INTERFACES {
            let (resolve, packages) = contract(interface);
            let own = *packages.last().unwrap();
            let id = *resolve.packages[own].interfaces.values().next().unwrap();
            assert_eq!(difference(interface, &resolve, id), None);
        }
    }

    #[test]
    fn difference_lists_missing_and_found_items() {
        let mut resolve = Resolve::default();
        let (_, text) = contract::FILES.into_iter().find(|(path, _)| path.ends_with("compress.wit")).unwrap();
        let older = text.replace("push: func(bytes: list<u8>)", "push: func(text: string)");
        let package = resolve.push_str("older.wit", &older).unwrap();
        let id = *resolve.packages[package].interfaces.values().next().unwrap();
        let difference = difference(&COMPRESSOR, &resolve, id).unwrap();
        assert_eq!(
            difference,
            "  - push: func(bytes: list<u8>) -> result<list<u8>, error>;\n  + push: func(text: string) -> result<list<u8>, error>;"
        );
    }
}
