use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use clap::{Args, ValueEnum};

use super::super::Failure;
use super::kind::StageKind;
use super::template::{self, File};
use crate::print::outln;

/// Creates a project for a new stage in a new directory: a small working stage with tests.
///
/// Its README.md describes how to build it.
#[derive(Debug, Args)]
pub(in crate::commands) struct NewCommand {
    /// Name of the stage and its directory: 1-63 characters of a-z, 0-9 and `-`, beginning with a letter.
    #[arg(value_parser = name)]
    name: String,
    /// Kind of the stage.
    #[arg(long, value_enum)]
    kind: StageKind,
    /// Language of the stage. Some kinds have templates only in Rust and Go.
    #[arg(long, value_enum, default_value_t)]
    lang: Language,
}

/// The language of a new stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Language {
    /// Produces the fastest and smallest stages.
    #[default]
    Rust,
    /// Builds with componentize-py.
    Python,
    /// Builds with componentize-js.
    Js,
    /// Builds with the standard Go compiler and `logship stage componentize`.
    Go,
}

impl NewCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let folder = Path::new(&self.name);
        if folder.symlink_metadata().is_ok() {
            return Err(format!("{} already exists: choose another name, or delete it", self.name).into());
        }
        let files = template::files(&self.name, self.kind, self.lang)?;
        for file in &files {
            write(folder, file).map_err(|error| format!("{}/{}: {error}", self.name, file.path))?;
        }
        outln!("created {}/ with {} files; its README.md describes how to build it", self.name, files.len());
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

/// Checks a name for stages, crates and packages.
fn name(text: &str) -> Result<String, String> {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_name = (1..=63).contains(&text.len())
        && text.bytes().all(is_allowed)
        && text.starts_with(|first: char| first.is_ascii_lowercase());
    if is_name {
        Ok(text.to_owned())
    } else {
        Err("use 1-63 characters of a-z, 0-9 and `-`, beginning with a letter".into())
    }
}
