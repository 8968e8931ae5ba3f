//! The files of a new stage, from host/templates/, the examples and wit/.

use super::super::Failure;
use super::bindings;
use super::kind::StageKind;
use super::new::Language;
use logship_runtime::contract;

/// A file of a project.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    /// The path in the project's directory.
    pub(super) path: String,
    /// The file's text.
    pub(super) text: String,
}

macro_rules! template {
    ($path:literal) => {
        include_str!(concat!("../../../templates/", $path))
    };
}

macro_rules! example {
    ($path:literal) => {
        include_str!(concat!("../../../../../examples/", $path))
    };
}

/// Returns the files of a new stage.
///
/// # Errors
/// Fails if the kind has no template in this language; the error lists the kinds that have one.
pub(super) fn files(name: &str, kind: StageKind, language: Language) -> Result<Vec<File>, Failure> {
    let files = match language {
        Language::Rust => rust(kind),
        Language::Python => python(kind)?,
        Language::Js => js(kind)?,
        Language::Go => go(kind)?,
    };
    let filled =
        |(path, text): (&str, &str)| File { path: path.into(), text: fill(text, name, kind, language) };
    let contract =
        contract::FILES.map(|(path, text)| File { path: format!("wit/{path}"), text: text.into() });
    let made = if language == Language::Go { bindings::files(name, kind.into())? } else { vec![] };
    Ok(files.into_iter().map(filled).chain(contract).chain(made).collect())
}

type Files = Vec<(&'static str, &'static str)>;

fn rust(kind: StageKind) -> Files {
    let stage = match kind {
        StageKind::Transformer => template!("rust/transformer.rs"),
        StageKind::Encoder => template!("rust/encoder.rs"),
        StageKind::Compressor => template!("rust/compressor.rs"),
        StageKind::Renderer => template!("rust/renderer.rs"),
        StageKind::Formatter => template!("rust/formatter.rs"),
        StageKind::RowEncoder => template!("rust/row-encoder.rs"),
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
    if kind == StageKind::RowEncoder {
        files.push(("src/value.rs", template!("rust/value.rs")));
    }
    files
}

fn python(kind: StageKind) -> Result<Files, Failure> {
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
        StageKind::Transformer => vec![
            ("app.py", template!("python/transformer_app.py")),
            ("transformer.py", template!("python/session.py")),
            ("stage.py", template!("python/transformer_stage.py")),
            ("test_stage.py", template!("python/transformer_test.py")),
        ],
        StageKind::Formatter => vec![
            ("app.py", template!("python/formatter_app.py")),
            ("formatter.py", template!("python/session.py")),
            ("stage.py", template!("python/formatter_stage.py")),
            ("test_stage.py", template!("python/formatter_test.py")),
        ],
        _ => return Err(missing("Python", "transformer and formatter").into()),
    });
    Ok(files)
}

fn js(kind: StageKind) -> Result<Files, Failure> {
    let mut files = vec![
        ("README.md", template!("js/README.md")),
        ("package.json", template!("js/package.json")),
        ("package-lock.json", example!("tenant-path-js/package-lock.json")),
        ("build.mjs", template!("js/build.mjs")),
        (".gitignore", "node_modules/\n*.wasm\n"),
        ("src/settings.js", example!("tenant-path-js/src/settings.js")),
        ("src/invalid-setting.js", example!("tenant-path-js/src/invalid-setting.js")),
    ];
    files.extend(match kind {
        StageKind::Renderer => vec![
            ("src/stage.js", template!("js/renderer.js")),
            ("src/partition.js", example!("tenant-path-js/src/partition.js")),
            ("test/stage.test.js", template!("js/renderer.test.js")),
        ],
        StageKind::Transformer => vec![
            ("src/stage.js", template!("js/transformer.js")),
            ("src/batch.js", template!("js/batch.js")),
            ("test/stage.test.js", template!("js/transformer.test.js")),
        ],
        _ => return Err(missing("JavaScript", "transformer and renderer").into()),
    });
    Ok(files)
}

fn go(kind: StageKind) -> Result<Files, Failure> {
    let mut files = vec![
        ("README.md", template!("go/README.md")),
        ("go.mod", template!("go/go.mod.template")),
        ("main.go", template!("go/main.go")),
        ("build.sh", template!("go/build.sh")),
        (".gitignore", "*.wasm\n"),
        ("stage/config.go", template!("go/config.go")),
    ];
    if takes_logs(kind) {
        files.push(("stage/batch.go", template!("go/batch.go")));
    }
    files.extend(match kind {
        StageKind::Transformer => vec![
            ("bindings/export_logship_transform_transformer/stage.go", template!("go/session_glue.go")),
            ("bindings/export_logship_transform_transformer/errors.go", template!("go/errors_glue.go")),
            ("stage/stage.go", template!("go/transformer.go")),
            ("stage/stage_test.go", template!("go/transformer_test.go")),
        ],
        StageKind::Encoder => vec![
            ("bindings/export_logship_encode_encoder/stage.go", template!("go/encoder_glue.go")),
            ("bindings/export_logship_encode_encoder/errors.go", template!("go/errors_glue.go")),
            ("stage/stage.go", template!("go/encoder.go")),
            ("stage/stage_test.go", template!("go/encoder_test.go")),
        ],
        StageKind::Compressor => vec![
            ("bindings/export_logship_compress_compressor/stage.go", template!("go/compressor_glue.go")),
            ("stage/stage.go", template!("go/compressor.go")),
            ("stage/stage_test.go", template!("go/compressor_test.go")),
        ],
        StageKind::Renderer => vec![
            ("bindings/export_logship_object_path_renderer/stage.go", template!("go/renderer_glue.go")),
            ("stage/partition.go", template!("go/partition.go")),
            ("stage/stage.go", template!("go/renderer.go")),
            ("stage/stage_test.go", template!("go/renderer_test.go")),
        ],
        StageKind::Formatter => vec![
            ("bindings/export_logship_siem_formatter/stage.go", template!("go/session_glue.go")),
            ("bindings/export_logship_siem_formatter/errors.go", template!("go/errors_glue.go")),
            ("stage/stage.go", template!("go/formatter.go")),
            ("stage/stage_test.go", template!("go/formatter_test.go")),
        ],
        StageKind::RowEncoder => {
            return Err(missing("Go", "transformer, encoder, compressor, renderer and formatter").into());
        }
    });
    Ok(files)
}

fn missing(language: &str, kinds: &str) -> String {
    format!(
        "{language} has templates only for --kind {kinds}; for other kinds use --lang rust (docs/languages.md)"
    )
}

fn takes_logs(kind: StageKind) -> bool {
    matches!(kind, StageKind::Transformer | StageKind::Encoder | StageKind::Formatter | StageKind::RowEncoder)
}

/// Fills in the placeholders of a template.
fn fill(text: &str, name: &str, kind: StageKind, language: Language) -> String {
    let library = name.replace('-', "_");
    let file = match language {
        Language::Rust => format!("target/wasm32-unknown-unknown/release/{library}.wasm"),
        _ => format!("./{name}.wasm"),
    };
    let Placeholders { word, interface, summary, usage, setting, dependency } = placeholders(kind, language);
    text.replace("{{use}}", usage)
        .replace("{{what}}", summary)
        .replace("{{setting}}", setting)
        .replace("{{dependency}}\n", dependency)
        .replace("A {{kind}}", if kind == StageKind::Encoder { "An encoder" } else { "A {{kind}}" })
        .replace("{{kind}}", word)
        .replace("{{interface}}", interface)
        .replace("{{bindings}}", &format!("logship_{}", interface.replace("::", "_")))
        .replace("{{output}}", if kind == StageKind::Formatter { "Messages" } else { "Transformed" })
        .replace("{{package}}", &bindings::package())
        .replace("{{name}}", name)
        .replace("{{library}}", &library)
        .replace("{{file}}", &file)
        // package-lock.json is that of this example.
        .replace("tenant-path-js", name)
}

/// The texts of a kind that fill placeholders.
struct Placeholders {
    /// The name of the kind and of its world.
    word: &'static str,
    /// The Rust module of the kind's interface.
    interface: &'static str,
    /// A sentence about the template's stage.
    summary: &'static str,
    /// An example command.
    usage: &'static str,
    /// The Python schema of the stage's setting.
    setting: &'static str,
    /// An additional Rust dependency.
    dependency: &'static str,
}

fn placeholders(kind: StageKind, language: Language) -> Placeholders {
    let none = Placeholders { word: "", interface: "", summary: "", usage: "", setting: "", dependency: "" };
    match kind {
        StageKind::Transformer => Placeholders {
            word: "transformer",
            interface: "transform::transformer",
            summary: "It drops the fields with some keys.",
            usage: "logship ship access.ndjson --to out --transform {{file}}='{\"drop\":[\"cookie\"]}'",
            setting: r#""drop": {
            "type": "array",
            "items": {"type": "string"},
            "default": ["password"],
            "description": "Keys of the fields to drop.",
        },"#,
            ..none
        },
        StageKind::Encoder => Placeholders {
            word: "encoder",
            interface: "encode::encoder",
            summary: "It writes one line per log, with its values separated by tabs.",
            usage: "logship ship access.ndjson --to out --encoder {{file}}",
            ..none
        },
        StageKind::Compressor => Placeholders {
            word: "compressor",
            interface: "compress::compressor",
            summary: if language == Language::Go {
                "It compresses to the zlib format."
            } else {
                "It compresses to an LZ4 frame."
            },
            usage: "logship ship access.ndjson --to out --compressor {{file}}",
            dependency: "lz4_flex = \"0.14\"\n",
            ..none
        },
        StageKind::Renderer => Placeholders {
            word: "renderer",
            interface: "object_path::renderer",
            summary: "It puts the shard's number into object keys.",
            usage: "logship ship access.ndjson --to out --renderer {{file}}",
            ..none
        },
        StageKind::Formatter => Placeholders {
            word: "formatter",
            interface: "siem::formatter",
            summary: "It formats each log as one message.",
            usage: "logship stage add {{file}}      # for SIEM rules of a service: docs/siem.md",
            setting: r#""app": {"type": "string", "default": "logship", "description": "The application name in messages."},"#,
            ..none
        },
        StageKind::RowEncoder => Placeholders {
            word: "row encoder",
            interface: "rows::row_encoder",
            summary: "It encodes each log as a row in ClickHouse's format JSONEachRow.",
            usage: "logship stage add {{file}}      # for a service",
            ..none
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_all_placeholders() {
        let kinds = [
            StageKind::Transformer,
            StageKind::Encoder,
            StageKind::Compressor,
            StageKind::Renderer,
            StageKind::Formatter,
            StageKind::RowEncoder,
        ];
        let mut made = 0;
        for (kind, language) in kinds.iter().flat_map(|&kind| {
            [Language::Rust, Language::Python, Language::Js, Language::Go].map(|language| (kind, language))
        }) {
            let Ok(files) = files("my-stage", kind, language) else { continue };
            made += 1;
            for File { path, text } in files {
                let is_generated = path.starts_with("wit/") || path.ends_with("/wit_bindings.go");
                assert!(!text.contains("{{") || is_generated, "{path} of {kind:?} in {language:?}");
                assert!(!text.contains("A encoder"), "{path} of {kind:?} in {language:?}");
                assert!(!text.contains("tenant-path-js"), "{path} of {kind:?} in {language:?}");
            }
        }
        assert_eq!(made, 15);
    }

    #[test]
    fn missing_template_error_lists_kinds() {
        let problem = |kind, language| files("my-stage", kind, language).unwrap_err().to_string();
        assert!(problem(StageKind::Encoder, Language::Python).contains("--kind transformer and formatter"));
        assert!(problem(StageKind::Encoder, Language::Js).contains("--kind transformer and renderer"));
    }
}
