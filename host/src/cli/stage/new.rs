use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use clap::{Args, ValueEnum};

use super::super::Failure;
use super::kind::StageKind;
use super::template::{self, File};

/// Makes a project of a stage of your own, in a new folder: one that builds, is tested and does something small.
///
/// What it needs to build stands in its README.md.
#[derive(Debug, Args)]
pub(in crate::cli) struct NewCommand {
    /// What the stage and its folder are called: 1 to 63 of a-z, 0-9 and `-`, a letter first.
    #[arg(value_parser = name)]
    name: String,
    /// What it makes of what.
    #[arg(long, value_enum)]
    kind: StageKind,
    /// What it is written in. There are kinds for which only Rust and Go have a template.
    #[arg(long, value_enum, default_value_t)]
    lang: Language,
}

/// What a new stage can be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Language {
    /// The fastest and smallest.
    #[default]
    Rust,
    /// By componentize-py.
    Python,
    /// By componentize-js.
    Js,
    /// By Go's own compiler and `logship stage componentize`.
    Go,
}

impl NewCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let folder = Path::new(&self.name);
        if folder.symlink_metadata().is_ok() {
            return Err(format!("{} is there already: choose another name, or remove it", self.name).into());
        }
        let files = template::files(&self.name, self.kind, self.lang)?;
        for file in &files {
            write(folder, file).map_err(|error| format!("{}/{}: {error}", self.name, file.path))?;
        }
        println!("made {}/: {} files; its README.md says how it is built", self.name, files.len());
        Ok(())
    }
}

fn write(folder: &Path, file: &File) -> std::io::Result<()> {
    let path = folder.join(&file.path);
    fs::create_dir_all(path.parent().unwrap_or(folder))?;
    fs::write(&path, &file.text)?;
    if file.path.ends_with(".sh") {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// A name that stages, crates and packages may have.
fn name(text: &str) -> Result<String, String> {
    let lawful = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_name = (1..=63).contains(&text.len())
        && text.bytes().all(lawful)
        && text.starts_with(|first: char| first.is_ascii_lowercase());
    if is_name { Ok(text.to_owned()) } else { Err("1 to 63 of a-z, 0-9 and `-`, a letter first".into()) }
}
