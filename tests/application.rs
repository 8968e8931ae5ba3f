//! Compares the Spin applications of this repository with the built components.

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

/// The applications of the repository: one for each trigger, so that a lost Redis ends no HTTP calls.
const APPLICATIONS: [(&str, &str); 2] = [("http", "spin.toml"), ("redis", "deploy/spin-redis.toml")];

fn text(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

fn application(file: &str) -> Table {
    text(file).parse().unwrap()
}

/// The components of all applications, by name, with the folder to which their paths are relative.
fn components() -> BTreeMap<String, (PathBuf, Table)> {
    let mut components = BTreeMap::new();
    for (_, file) in APPLICATIONS {
        let folder = root().join(file).parent().unwrap().to_owned();
        for (name, component) in table(&application(file), "component") {
            components.insert(name.clone(), (folder.clone(), component.as_table().unwrap().clone()));
        }
    }
    components
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
    let components = components();
    assert_eq!(components.keys().collect::<Vec<_>>(), ["trigger-http", "trigger-redis"]);
    for (name, (folder, component)) in &components {
        let trigger = interfaces(&folder.join(component["source"].as_str().unwrap()));
        let dependencies = table(component, "dependencies");
        for (import, dependency) in dependencies {
            assert!(
                trigger.imports.contains(import),
                "{name} does not import {import}: {:?}",
                trigger.imports
            );
            let path = dependency["path"].as_str().unwrap();
            let stage = interfaces(&folder.join(path));
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
fn each_application_has_one_trigger_and_its_variables() {
    for (kind, file) in APPLICATIONS {
        let application = application(file);
        let triggers = table(&application, "trigger");
        assert_eq!(triggers.keys().collect::<Vec<_>>(), [kind]);
        let called: Vec<_> =
            triggers[kind].as_array().unwrap().iter().map(|trigger| &trigger["component"]).collect();
        assert_eq!(called, [&Value::from(format!("trigger-{kind}"))]);
        let variables = table(&application, "variables");
        for (name, variable) in variables {
            assert!(
                variable.get("default").is_some(),
                "{name} has no default: the application does not run without settings"
            );
            let is_secret = ["secret", "token"].iter().any(|word| name.contains(word));
            assert_eq!(variable.get("secret").is_some(), is_secret, "{name}");
        }
        let text = text(file);
        let used: BTreeSet<_> =
            text.split("{{ ").skip(1).map(|rest| rest.split_once(" }}").unwrap().0.to_owned()).collect();
        assert_eq!(used, variables.keys().cloned().collect());
    }
}

/// Runs a command of `logship function` with the application for HTTP, after `change`.
fn run_with(command: &[&str], change: impl Fn(String) -> String) -> std::process::Output {
    let folder = tempfile::tempdir().unwrap();
    let text = text("spin.toml");
    let changed = change(text.clone());
    let file = folder.path().join("spin.toml");
    // The paths are relative to the repository.
    fs::write(&file, changed.replace("\"target/", &format!("\"{}/target/", root().display()))).unwrap();
    let mut program = support::logship();
    // No `spin` is found.
    program.arg("function").args(command).arg(&file).env("PATH", folder.path());
    program.output().unwrap()
}

/// Returns the error of `logship function compose` for the application with one line changed.
fn compose_error(line: &str, changed: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("composed.wasm");
    let composed = run_with(&["compose", "--output", output.to_str().unwrap()], |text| {
        assert!(text.contains(line));
        text.replace(line, changed)
    });
    assert!(!composed.status.success());
    String::from_utf8(composed.stderr).unwrap()
}

/// Returns the lines that `logship function check` prints for the changed application, and whether it succeeds.
fn check(options: &[&str], change: impl Fn(String) -> String) -> (Vec<String>, bool) {
    let checked = run_with(&[&["check"], options].concat(), change);
    let printed = String::from_utf8(checked.stdout).unwrap();
    let line = |line: &str| line.rsplit_once("/spin.toml").map_or(line, |(_, rest)| rest).to_owned();
    (printed.lines().map(line).collect(), checked.status.success())
}

/// Returns the number of the first line that contains a text.
fn line_of(needle: &str) -> usize {
    1 + text("spin.toml").lines().position(|line| line.contains(needle)).unwrap()
}

#[test]
fn check_accepts_the_repository() {
    for (_, file) in APPLICATIONS {
        let checked =
            support::logship().args(["function", "check", file]).current_dir(root()).env("PATH", "").output();
        let checked = checked.unwrap();
        let printed = String::from_utf8(checked.stdout).unwrap();
        assert!(checked.status.success(), "{printed}");
        assert_eq!(printed, format!("{file}: no problems; it needs Spin 4.1 or later\n"));
    }
}

#[test]
fn check_reports_all_problems_with_lines() {
    let (lines, succeeded) = check(&[], |text| {
        let text = text.replace("encode-json", "encode-yaml").replace("compress-snappy", "encode-csv");
        let text = text.replace("http://127.0.0.1:9000", "lake.example.org");
        text.replace("\"logship:siem/formatter@1.0.0\"", "\"logship:siem/former@1.0.0\"")
    });
    let expected = [
        (line_of("allowed_outbound_hosts"), "\"lake.example.org\" has no scheme"),
        (line_of("[component.trigger-http.dependencies]"), "imports logship:siem/formatter@1.0.0, but no"),
        (line_of("encode-json"), "encode-yaml.wasm: No such file"),
        (line_of("compress-snappy"), "encode-csv.wasm doesn't export logship:compress/compressor@1.0.0"),
        (line_of("siem-hec"), "doesn't import logship:siem/former@1.0.0"),
    ];
    assert!(!succeeded);
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, (number, words)) in lines.iter().zip(expected) {
        assert!(line.starts_with(&format!(":{number}: ")) && line.contains(words), "{line} {number} {words}");
    }
}

#[test]
fn check_reports_missing_and_wrong_sources() {
    let source = line_of("source =");
    for (file, words) in [
        ("functions/none.wasm", "none.wasm: No such file"),
        ("components/encode-json.wasm", "doesn't export wasi:http/handler@0.3.0, so an HTTP trigger"),
        ("functions/trigger-redis.wasm", "doesn't export wasi:http/handler@0.3.0, so an HTTP trigger"),
        ("../README.md", "not a WebAssembly component"),
    ] {
        let (lines, succeeded) = check(&[], |text| text.replace("functions/trigger-http.wasm", file));
        let found =
            lines.iter().any(|line| line.starts_with(&format!(":{source}: ")) && line.contains(words));
        assert!(found && !succeeded, "{file}: {lines:#?}");
    }
}

#[test]
fn check_accepts_names_of_spin() {
    for name in ["logship:encode/encoder", "logship:encode"] {
        let (lines, succeeded) = check(&[], |text| text.replace("logship:encode/encoder@1.0.0", name));
        assert!(succeeded, "{name}: {lines:#?}");
    }
}

#[test]
fn check_reports_conflicting_dependencies() {
    let encoder = "\"logship:encode/encoder@1.0.0\" =";
    let both = "\"logship:encode\" = { path = \"target/components/encode-csv.wasm\" }\n";
    let (lines, succeeded) = check(&[], |text| text.replace(encoder, &format!("{both}{encoder}")));
    let words = "several dependencies provide logship:encode/encoder@1.0.0";
    assert!(!succeeded && lines.iter().any(|line| line.contains(words)), "{lines:#?}");
}

#[test]
fn check_reports_old_spin() {
    for (version, is_new) in [("3.6.0", false), ("4.0.2", false), ("4.1.0-pre0", true), ("5.0", true)] {
        let (lines, succeeded) = check(&["--spin", version], |text| text);
        assert_eq!(succeeded, is_new, "{lines:#?}");
        let needs = lines.iter().any(|line| line.contains("needs Spin 4.1 or later"));
        assert_eq!(needs, !is_new, "{lines:#?}");
    }
    let (lines, _) = check(&["--spin", "4.0.2"], |text| text);
    assert!(lines[0].contains("trigger-http.wasm"), "{lines:#?}");
}

#[test]
fn check_advises_against_redis_beside_http() {
    let redis =
        "[[trigger.redis]]\naddress = \"redis://127.0.0.1\"\nchannel = \"a\"\ncomponent = \"trigger-http\"\n";
    let (lines, _) = check(&[], |text| text + redis);
    assert!(
        lines.iter().any(|line| line.contains("advice: this application has HTTP and Redis")),
        "{lines:#?}"
    );
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
    for (name, (folder, component)) in &components() {
        let mut function = fs::read(folder.join(component["source"].as_str().unwrap())).unwrap();
        assert!(stages.is_trusted(&function), "{name}");
        // An empty custom section does not change the behavior.
        function.extend([0, 1, 0]);
        assert!(!stages.is_trusted(&function), "{name}");
    }
    assert!(!stages.is_trusted(b""));
}
