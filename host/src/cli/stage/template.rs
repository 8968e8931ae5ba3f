//! The files of a new stage, from host/templates/, the examples and wit/.

use super::super::Failure;
use super::new::{Language, NewKind};

/// A file of a project.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    /// Where it is in the project's folder.
    pub(super) path: String,
    /// What is in it.
    pub(super) text: String,
}

macro_rules! wit {
    ($($path:literal),* $(,)?) => {
        [$((concat!("wit/", $path), include_str!(concat!("../../../../wit/", $path)))),*]
    };
}

/// The contract.
const WIT: [(&str, &str); 8] = wit![
    "stages.wit",
    "deps/batch/batch.wit",
    "deps/compress/compress.wit",
    "deps/encode/encode.wit",
    "deps/object-path/object-path.wit",
    "deps/pipeline/pipeline.wit",
    "deps/siem/siem.wit",
    "deps/transform/transform.wit",
];

macro_rules! template {
    ($path:literal) => {
        include_str!(concat!("../../../templates/", $path))
    };
}

macro_rules! example {
    ($path:literal) => {
        include_str!(concat!("../../../../examples/", $path))
    };
}

/// The files of a stage of this name.
///
/// # Errors
/// When there is no template; it says what to do.
pub(super) fn files(name: &str, kind: NewKind, language: Language) -> Result<Vec<File>, Failure> {
    let files = match language {
        Language::Rust => rust(kind),
        Language::Python => python(kind)?,
        Language::Js => js(kind)?,
        Language::Go => {
            return Err("there is no template for Go: TinyGo, which makes components of it, is not where logship is tested. Begin with wit/ of logship and TinyGo's target wasip2; what it builds imports WASI, and runs with --allow-wasi (docs/languages.md)".into());
        }
    };
    let filled =
        |(path, text): (&str, &str)| File { path: path.into(), text: fill(text, name, kind, language) };
    let contract = WIT.map(|(path, text)| File { path: path.into(), text: text.into() });
    Ok(files.into_iter().map(filled).chain(contract).collect())
}

type Files = Vec<(&'static str, &'static str)>;

fn rust(kind: NewKind) -> Files {
    let stage = match kind {
        NewKind::Transformer => template!("rust/transformer.rs"),
        NewKind::Encoder => template!("rust/encoder.rs"),
        NewKind::Compressor => template!("rust/compressor.rs"),
        NewKind::Renderer => template!("rust/renderer.rs"),
        NewKind::Formatter => template!("rust/formatter.rs"),
    };
    let mut files = vec![
        ("README.md", template!("rust/README.md")),
        ("Cargo.toml", template!("rust/Cargo.toml.template")),
        (".cargo/config.toml", template!("rust/config.toml")),
        (".gitignore", "target/\n"),
        ("src/lib.rs", stage),
        ("src/config.rs", template!("rust/config.rs")),
    ];
    if takes_logs(kind) {
        files.push(("src/batch.rs", template!("rust/batch.rs")));
    }
    files
}

fn python(kind: NewKind) -> Result<Files, Failure> {
    let mut files = vec![
        ("README.md", template!("python/README.md")),
        ("build.sh", template!("python/build.sh")),
        ("requirements.txt", example!("redact-py/requirements.txt")),
        (".gitignore", "__pycache__/\nvenv/\n*.wasm\n"),
        ("batch.py", example!("redact-py/batch.py")),
        ("config.py", template!("python/config.py")),
        ("settings.py", example!("redact-py/settings.py")),
    ];
    files.extend(match kind {
        NewKind::Transformer => vec![
            ("app.py", template!("python/transformer_app.py")),
            ("transformer.py", template!("python/session.py")),
            ("stage.py", template!("python/transformer_stage.py")),
            ("test_stage.py", template!("python/transformer_test.py")),
        ],
        NewKind::Formatter => vec![
            ("app.py", template!("python/formatter_app.py")),
            ("formatter.py", template!("python/session.py")),
            ("stage.py", template!("python/formatter_stage.py")),
            ("test_stage.py", template!("python/formatter_test.py")),
        ],
        _ => return Err(missing("Python", "transformer and formatter").into()),
    });
    Ok(files)
}

fn js(kind: NewKind) -> Result<Files, Failure> {
    let mut files = vec![
        ("README.md", template!("js/README.md")),
        ("package.json", template!("js/package.json")),
        ("package-lock.json", example!("tenant-path-js/package-lock.json")),
        ("build.mjs", template!("js/build.mjs")),
        (".gitignore", "node_modules/\n*.wasm\n"),
        ("src/settings.js", example!("tenant-path-js/src/settings.js")),
        ("src/wrong.js", example!("tenant-path-js/src/wrong.js")),
    ];
    files.extend(match kind {
        NewKind::Renderer => vec![
            ("src/stage.js", template!("js/renderer.js")),
            ("src/partition.js", example!("tenant-path-js/src/partition.js")),
            ("test/stage.test.js", template!("js/renderer.test.js")),
        ],
        NewKind::Transformer => vec![
            ("src/stage.js", template!("js/transformer.js")),
            ("src/batch.js", template!("js/batch.js")),
            ("test/stage.test.js", template!("js/transformer.test.js")),
        ],
        _ => return Err(missing("JavaScript", "transformer and renderer").into()),
    });
    Ok(files)
}

fn missing(language: &str, kinds: &str) -> String {
    format!(
        "templates in {language} are for --kind {kinds}; for the others begin with --lang rust, or with one of these and wit/ (docs/languages.md)"
    )
}

fn takes_logs(kind: NewKind) -> bool {
    matches!(kind, NewKind::Transformer | NewKind::Encoder | NewKind::Formatter)
}

/// Puts in what is the stage's own.
fn fill(text: &str, name: &str, kind: NewKind, language: Language) -> String {
    let library = name.replace('-', "_");
    let file = match language {
        Language::Rust => format!("target/wasm32-unknown-unknown/release/{library}.wasm"),
        _ => format!("./{name}.wasm"),
    };
    let About { word, interface, what, using, setting, dependency } = about(kind);
    text.replace("{{use}}", using)
        .replace("{{what}}", what)
        .replace("{{setting}}", setting)
        .replace("{{dependency}}\n", dependency)
        .replace("{{kind}}", word)
        .replace("{{interface}}", interface)
        .replace("{{name}}", name)
        .replace("{{library}}", &library)
        .replace("{{file}}", &file)
        // The example whose package-lock.json it is.
        .replace("tenant-path-js", name)
}

/// What is of a kind.
struct About {
    /// The kind, and the world.
    word: &'static str,
    /// The module of its interface, in Rust.
    interface: &'static str,
    /// What the template does.
    what: &'static str,
    /// How it is used.
    using: &'static str,
    /// Its setting, in Python.
    setting: &'static str,
    /// What it needs besides, in Rust.
    dependency: &'static str,
}

fn about(kind: NewKind) -> About {
    let none = About { word: "", interface: "", what: "", using: "", setting: "", dependency: "" };
    match kind {
        NewKind::Transformer => About {
            word: "transformer",
            interface: "transform::transformer",
            what: "It leaves out the fields of some keys.",
            using: "logship ship access.ndjson --to out --transform {{file}}='{\"drop\":[\"cookie\"]}'",
            setting: r#""drop": {
            "type": "array",
            "items": {"type": "string"},
            "default": ["password"],
            "description": "Keys of fields to leave out.",
        },"#,
            ..none
        },
        NewKind::Encoder => About {
            word: "encoder",
            interface: "encode::encoder",
            what: "It writes a line a log, its values with a tab between them.",
            using: "logship ship access.ndjson --to out --encoder {{file}}",
            ..none
        },
        NewKind::Compressor => About {
            word: "compressor",
            interface: "compress::compressor",
            what: "It makes a frame of LZ4.",
            using: "logship ship access.ndjson --to out --compressor {{file}}",
            dependency: "lz4_flex = \"0.14\"\n",
            ..none
        },
        NewKind::Renderer => About {
            word: "renderer",
            interface: "object_path::renderer",
            what: "It puts the number of the shard into the keys of objects.",
            using: "logship ship access.ndjson --to out --renderer {{file}}",
            ..none
        },
        NewKind::Formatter => About {
            word: "formatter",
            interface: "siem::formatter",
            what: "It makes a message of each log.",
            using: "logship stage add {{file}}      # to a service, for rules that send: docs/siem.md",
            setting: r#""app": {"type": "string", "default": "logship", "description": "Who the messages are from."},"#,
            ..none
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_to_fill_in() {
        let kinds = [
            NewKind::Transformer,
            NewKind::Encoder,
            NewKind::Compressor,
            NewKind::Renderer,
            NewKind::Formatter,
        ];
        let mut made = 0;
        for (kind, language) in kinds.iter().flat_map(|&kind| {
            [Language::Rust, Language::Python, Language::Js].map(|language| (kind, language))
        }) {
            let Ok(files) = files("my-stage", kind, language) else { continue };
            made += 1;
            for File { path, text } in files {
                assert!(
                    !text.contains("{{") || path.starts_with("wit/"),
                    "{path} of {kind:?} in {language:?}"
                );
                assert!(!text.contains("tenant-path-js"), "{path} of {kind:?} in {language:?}");
            }
        }
        assert_eq!(made, 9);
    }

    #[test]
    fn what_is_not_offered_says_what_to_do() {
        let problem = |kind, language| files("my-stage", kind, language).unwrap_err().to_string();
        assert!(problem(NewKind::Encoder, Language::Go).contains("TinyGo"));
        assert!(problem(NewKind::Encoder, Language::Python).contains("--kind transformer and formatter"));
        assert!(problem(NewKind::Encoder, Language::Js).contains("--kind transformer and renderer"));
    }
}
