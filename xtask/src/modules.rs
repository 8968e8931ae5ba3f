//! The imports between the top-level modules of a crate, read from its sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::files;

/// For each top-level module of a crate, those that it imports.
pub(crate) type Imports = BTreeMap<String, BTreeSet<String>>;

/// Reads the imports between the top-level modules of the crate whose sources are in `folder`. Tests do not count.
pub(crate) fn imports(folder: &Path) -> Result<Imports> {
    let mut sources = vec![];
    for file in files::walk(folder)? {
        let path = file.strip_prefix(folder)?.with_extension("");
        let is_rust = file.extension().is_some_and(|extension| extension == "rs");
        let levels: Vec<String> = path.iter().map(|level| level.to_string_lossy().into_owned()).collect();
        let is_test = levels.last().is_some_and(|level| level == "tests");
        if is_rust && !is_test && !matches!(levels[0].as_str(), "main" | "bin") {
            let text =
                fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            sources.push((levels, text));
        }
    }
    Ok(of_sources(&sources))
}

/// The imports of sources, each with the levels of its path below `src`: `["a", "b"]` of `src/a/b.rs`.
fn of_sources(sources: &[(Vec<String>, String)]) -> Imports {
    let names = sources.iter().map(|(levels, _)| levels[0].clone()).filter(|name| name != "lib");
    let mut imports: Imports = names.map(|name| (name, BTreeSet::new())).collect();
    let root = sources.iter().find(|(levels, _)| levels == &["lib"]);
    let reexports = root.map(|(_, text)| reexports(&code(text))).unwrap_or_default();
    for (levels, text) in sources.iter().filter(|(levels, _)| levels[0] != "lib") {
        let depth = levels.len() - usize::from(levels.last().is_some_and(|last| last == "mod"));
        for name in from_root(&code(text), depth) {
            let module = reexports.get(&name).unwrap_or(&name);
            if imports.contains_key(module) && *module != levels[0] {
                imports.entry(levels[0].clone()).or_default().insert(module.clone());
            }
        }
    }
    imports
}

/// The text without comments and without the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The names that the root of a crate takes out of its modules, each with the module.
fn reexports(root: &str) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for statement in root.split(';') {
        let Some((_, path)) = statement.split_once("use ") else { continue };
        let path = path.trim().trim_start_matches("crate::").trim_start_matches("self::");
        let Some((module, rest)) = path.split_once("::") else { continue };
        for name in rest.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|name| !name.is_empty()) {
            names.insert(name.to_owned(), module.to_owned());
        }
    }
    names
}

/// The first names of all paths that begin at the crate's root, in the code of a module `depth` levels below it.
fn from_root(code: &str, depth: usize) -> Vec<String> {
    let supers = "super::".repeat(depth);
    let mut names = vec![];
    for prefix in ["crate::", supers.as_str()] {
        for (at, _) in code.match_indices(prefix) {
            let is_longer = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            if !is_longer {
                names.extend(first_names(&code[at + prefix.len()..]));
            }
        }
    }
    names
}

/// The first name of a path, or the first names of the paths in braces.
fn first_names(path: &str) -> Vec<String> {
    let name = |path: &str| path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let (mut depth, mut names, mut is_first) = (0, vec![], true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => is_first = true,
            c if is_first && depth == 0 && c.is_alphanumeric() => {
                names.push(name(&group[at..]));
                is_first = false;
            }
            _ => {}
        }
    }
    names
}

/// A circle of imports, if there is one: its first module stands at both ends.
pub(crate) fn circle(imports: &Imports) -> Option<Vec<String>> {
    let mut finished = BTreeSet::new();
    imports.keys().find_map(|module| search(imports, module, &mut vec![], &mut finished))
}

fn search<'a>(
    imports: &'a Imports,
    module: &'a str,
    path: &mut Vec<&'a str>,
    finished: &mut BTreeSet<&'a str>,
) -> Option<Vec<String>> {
    if let Some(at) = path.iter().position(|&above| above == module) {
        return Some(path[at..].iter().chain([&module]).map(|&name| name.to_owned()).collect());
    }
    if finished.contains(module) {
        return None;
    }
    path.push(module);
    let found = imports.get(module)?.iter().find_map(|imported| search(imports, imported, path, finished));
    path.pop();
    finished.insert(module);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sources: &[(&str, &str)]) -> Imports {
        let levels = |path: &str| path.split('/').map(str::to_owned).collect();
        let sources: Vec<_> = sources.iter().map(|(path, text)| (levels(path), (*text).to_owned())).collect();
        of_sources(&sources)
    }

    #[test]
    fn finds_imports_however_they_are_written() {
        let imports = read(&[
            ("lib", "mod a;\nmod b;\nmod c;\nmod d;\npub use c::{Item, deep::Other};"),
            ("a", "use super::b::X;\nfn f() -> crate::Item { todo }"),
            ("b/mod", "use crate::{c::{self, Y}, d};\n// use crate::a;"),
            ("b/inner", "use super::super::c;\nuse super::own;"),
            ("c", "#[cfg(test)]\nmod tests { use crate::a; }"),
            ("d", ""),
        ]);
        let expect = |module: &str, imported: &[&str]| {
            assert_eq!(imports[module].iter().map(String::as_str).collect::<Vec<_>>(), imported, "{module}");
        };
        expect("a", &["b", "c"]);
        expect("b", &["c", "d"]);
        expect("c", &[]);
        assert_eq!(circle(&imports), None);
    }

    #[test]
    fn finds_a_circle() {
        let imports = read(&[
            ("lib", "mod a;"),
            ("a", "use crate::b::X;"),
            ("b/mod", "mod inner;"),
            ("b/inner", "use super::super::c::Y;"),
            ("c", "use super::a;"),
        ]);
        assert_eq!(circle(&imports).unwrap(), ["a", "b", "c", "a"]);
    }
}
