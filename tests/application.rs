//! Compares spin.toml, the Spin application of this repository, with the built components.

use crate::support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use logship::function_stages::Stages;
use logship_registry::Registry;
use logship_runtime::engine::{Engine, Limits};
use logship_spin_runtime::application::ImportProvider as _;
use support::dummy;
use toml::{Table, Value};
use wit_component::DecodedWasm;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn application() -> Table {
    fs::read_to_string(root().join("spin.toml")).unwrap().parse().unwrap()
}

fn table<'a>(parent: &'a Table, name: &str) -> &'a Table {
    parent.get(name).and_then(Value::as_table).unwrap_or_else(|| panic!("spin.toml has no {name}"))
}

/// The imports and exports of a component, as `wit-component` reads them: the composer uses another reader.
struct Interfaces {
    imports: BTreeSet<String>,
    exports: BTreeSet<String>,
}

fn interfaces(path: &Path) -> Interfaces {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let DecodedWasm::Component(resolve, world) = wit_component::decode(&bytes).unwrap() else {
        panic!("{} is not a component", path.display());
    };
    let world = &resolve.worlds[world];
    let names = |items: Vec<_>| items.into_iter().map(|key| resolve.name_world_key(key)).collect();
    Interfaces {
        imports: names(world.imports.keys().collect()),
        exports: names(world.exports.keys().collect()),
    }
}

#[test]
fn dependencies_match_imports_and_exports() {
    let application = application();
    let components = table(&application, "component");
    assert_eq!(components.keys().collect::<Vec<_>>(), ["trigger-http", "trigger-redis"]);
    for (name, component) in components {
        let component = component.as_table().unwrap();
        let trigger = interfaces(&root().join(component["source"].as_str().unwrap()));
        let dependencies = table(component, "dependencies");
        for (import, dependency) in dependencies {
            assert!(
                trigger.imports.contains(import),
                "{name} does not import {import}: {:?}",
                trigger.imports
            );
            let path = dependency["path"].as_str().unwrap();
            let stage = interfaces(&root().join(path));
            assert!(stage.exports.contains(import), "{path} does not export {import}: {:?}", stage.exports);
            let callable = stage.imports.iter().find(|import| *import != "logship:batch/types@1.0.0");
            assert_eq!(callable, None, "{path} imports something");
        }
        let own = |import: &&String| import.starts_with("logship:") && !import.starts_with("logship:batch/");
        let wanted: BTreeSet<_> = trigger.imports.iter().filter(own).collect();
        assert_eq!(wanted, dependencies.keys().collect(), "{name}: an import has no dependency");
        // Spin accepts one component per package.
        let packages: BTreeSet<_> = dependencies.keys().map(|import| import.split('/').next()).collect();
        assert_eq!(packages.len(), dependencies.len());
        assert_eq!(component["dependencies_inherit_configuration"].as_bool(), Some(false), "{name}");
        let exported =
            if name == "trigger-http" { "wasi:http/handler@0.3.0" } else { "spin:redis/inbound-redis@3.0.0" };
        assert!(trigger.exports.contains(exported), "{name} exports {:?}", trigger.exports);
    }
}

#[test]
fn declares_both_triggers_and_all_variables() {
    let application = application();
    let triggers = table(&application, "trigger");
    for kind in ["http", "redis"] {
        let called: Vec<_> =
            triggers[kind].as_array().unwrap().iter().map(|trigger| &trigger["component"]).collect();
        assert_eq!(called, [&Value::from(format!("trigger-{kind}"))]);
    }
    let variables = table(&application, "variables");
    for (name, variable) in variables {
        assert!(
            variable.get("default").is_some(),
            "{name} has no default: the application does not run without settings"
        );
        let is_secret = ["secret", "token"].iter().any(|word| name.contains(word));
        assert_eq!(variable.get("secret").is_some(), is_secret, "{name}");
    }
    let text = fs::read_to_string(root().join("spin.toml")).unwrap();
    let used: BTreeSet<_> =
        text.split("{{ ").skip(1).map(|rest| rest.split_once(" }}").unwrap().0.to_owned()).collect();
    assert_eq!(used, variables.keys().cloned().collect());
}

/// Returns the error of `logship function compose` for the application with one line changed.
fn compose_error(line: &str, changed: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(root().join("spin.toml")).unwrap();
    let changed = text.replace(line, changed);
    assert_ne!(text, changed);
    let file = folder.path().join("spin.toml");
    // The paths are relative to the repository.
    fs::write(&file, changed.replace("\"target/", &format!("\"{}/target/", root().display()))).unwrap();
    let composed = support::logship()
        .args(["function", "compose"])
        .arg(&file)
        .arg("--output")
        .arg(folder.path().join("composed.wasm"))
        .output()
        .unwrap();
    assert!(!composed.status.success());
    String::from_utf8(composed.stderr).unwrap()
}

#[test]
fn rejects_wrong_dependency() {
    let encoder = r#""logship:encode/encoder@1.0.0" = { path = "target/components/encode-json.wasm" }"#;
    let cases = BTreeMap::from([
        // A stage of another kind.
        (
            encoder.replace("encode-json", "compress-gzip"),
            vec![
                "compress-gzip.wasm doesn't export logship:encode/encoder@1.0.0",
                "logship:compress/compressor@1.0.0",
            ],
        ),
        // Another version of the contract.
        (
            encoder.replace("1.0.0", "1.1.0"),
            vec!["doesn't import logship:encode/encoder@1.1.0", "logship:encode/encoder@1.0.0"],
        ),
        // No dependency.
        (String::new(), vec!["imports logship:encode/encoder@1.0.0, but no dependency provides it"]),
        (encoder.replace("encode-json", "encode-yaml"), vec!["encode-yaml.wasm", "No such file"]),
    ]);
    for (changed, expected) in cases {
        let error = compose_error(encoder, &changed);
        for text in expected {
            assert!(error.contains(text), "{changed}: {error}");
        }
    }
}

#[test]
fn reports_type_mismatch_of_dependency() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.wasm");
    fs::write(&file, dummy(|text| text.replace("size: func() -> u64;", "size: func() -> u32;"))).unwrap();
    let other = format!("path = \"{}\"", file.display());
    let error = compose_error("path = \"target/components/encode-json.wasm\"", &other);
    for text in ["other.wasm", "logship:encode/encoder@1.0.0", "other types", "u64", "u32"] {
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn trusts_only_unmodified_functions() {
    let stages = Stages::new(Registry::new(Engine::new(Limits::default(), None).unwrap()));
    for (name, component) in table(&application(), "component") {
        let mut function = fs::read(root().join(component["source"].as_str().unwrap())).unwrap();
        assert!(stages.is_trusted(&function), "{name}");
        // An empty custom section does not change the behavior.
        function.extend([0, 1, 0]);
        assert!(!stages.is_trusted(&function), "{name}");
    }
    assert!(!stages.is_trusted(b""));
}
