use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::toolchain::{FUNCTION, STAGE, TARGETS, Toolchain};
use crate::workspace::Workspace;
use crate::{command, files};

/// A Cargo project with stages in it.
#[derive(Debug)]
pub(crate) struct Project {
    manifest: PathBuf,
    profile: &'static str,
    pub(crate) stages: Vec<Stage>,
}

/// A package that becomes a component.
#[derive(Debug)]
pub(crate) struct Stage {
    /// The package's name, which the component file has as well.
    pub(crate) package: String,
    /// The library's name: cargo writes dashes as underscores.
    library: String,
    /// What it is compiled for: `package.metadata.logship.target` of its manifest.
    target: String,
    /// Whether it joins stages: `package.metadata.logship.role` of its manifest is `joint`.
    pub(crate) is_joint: bool,
}

impl Stage {
    /// Whether it is a function, which works with stages, and not a stage.
    pub(crate) fn is_function(&self) -> bool {
        self.target == FUNCTION
    }
}

impl Project {
    /// The stages in components/.
    pub(crate) fn of_workspace(workspace: &Workspace) -> Result<Self> {
        let manifest = workspace.path("Cargo.toml");
        let mut stages = stages_of(workspace, &manifest)?;
        stages.retain(|(_, folder)| folder.starts_with(workspace.path("components")));
        Ok(Self { manifest, profile: "stage", stages: stages.into_iter().map(|(stage, _)| stage).collect() })
    }

    /// The stages of a project with a workspace of its own, built as its author would. None, of a member of another
    /// workspace: it has a folder among these, and its neighbours are not its own.
    pub(crate) fn standalone(workspace: &Workspace, manifest: &Path) -> Result<Self> {
        let mut stages = stages_of(workspace, manifest)?;
        stages.retain(|(_, folder)| manifest.parent().is_some_and(|parent| folder.starts_with(parent)));
        let stages = stages.into_iter().map(|(stage, _)| stage).collect();
        Ok(Self { manifest: manifest.to_owned(), profile: "release", stages })
    }

    /// Takes those out that `is_other` says so of, as a project of their own.
    pub(crate) fn split_off(&mut self, is_other: impl Fn(&Stage) -> bool) -> Self {
        let (others, own) = std::mem::take(&mut self.stages).into_iter().partition(|stage| is_other(stage));
        self.stages = own;
        Self { manifest: self.manifest.clone(), profile: self.profile, stages: others }
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.stages.iter().map(|stage| &*stage.package).collect()
    }

    /// Writes the components into `folder`, as NAME.wasm; what joins stages into the folder `joints` beside it, as it is
    /// no stage itself.
    pub(crate) fn build(&self, workspace: &Workspace, toolchain: &Toolchain, folder: &Path) -> Result<()> {
        files::make_dir(folder)?;
        if self.stages.is_empty() {
            return Ok(());
        }
        let target_dir = workspace.target("guests");
        let joints = folder.with_file_name("joints");
        files::make_dir(&joints)?;
        for target in TARGETS {
            let packages = self.stages.iter().filter(|stage| stage.target == target);
            let packages: Vec<_> = packages.flat_map(|stage| ["--package", &stage.package]).collect();
            if packages.is_empty() {
                continue;
            }
            let mut cargo = toolchain.cargo_build(workspace, target);
            cargo.arg("--manifest-path").arg(&self.manifest).arg("--target-dir").arg(&target_dir);
            cargo.args(["--lib", "--profile", self.profile]).args(packages);
            command::run(&mut cargo)?;
        }
        for stage in &self.stages {
            let built = target_dir.join(&stage.target).join(self.profile);
            let folder = if stage.is_joint { &joints } else { folder };
            let component = folder.join(&stage.package).with_extension("wasm");
            if files::copy_if_changed(&built.join(&stage.library).with_extension("wasm"), &component)? {
                let size = fs::metadata(&component)?.len() / 1024;
                println!("  {} ({size} KiB)", workspace.relative(&component).display());
            }
        }
        Ok(())
    }
}

/// Removes components of stages that are no more, for the program would still take them in.
pub(crate) fn remove_strangers(folder: &Path, stages: &[Stage]) -> Result<()> {
    for path in files::list(folder)? {
        let known = stages.iter().any(|stage| path.file_stem().is_some_and(|stem| *stem == *stage.package));
        if path.extension().is_some_and(|suffix| suffix == "wasm") && !known {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// The project's packages that make a `cdylib`, each with its folder.
fn stages_of(workspace: &Workspace, manifest: &Path) -> Result<Vec<(Stage, PathBuf)>> {
    let mut cargo = workspace.cargo();
    cargo.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(manifest);
    let metadata: Value = serde_json::from_str(&command::read(&mut cargo)?)?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    Ok(packages.iter().filter_map(stage_of).collect())
}

fn stage_of(package: &Value) -> Option<(Stage, PathBuf)> {
    let is_cdylib = |target: &&Value| {
        target["crate_types"].as_array().is_some_and(|types| types.iter().any(|kind| kind == "cdylib"))
    };
    let target = package["targets"].as_array()?.iter().find(is_cdylib)?;
    let stage = Stage {
        package: package["name"].as_str()?.to_owned(),
        library: target["name"].as_str()?.replace('-', "_"),
        target: package["metadata"]["logship"]["target"].as_str().unwrap_or(STAGE).to_owned(),
        is_joint: package["metadata"]["logship"]["role"] == "joint",
    };
    let manifest = Path::new(package["manifest_path"].as_str()?);
    Some((stage, manifest.parent()?.to_owned()))
}
