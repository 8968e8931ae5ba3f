use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::packages::packages;
use crate::toolchain::{FUNCTION_TARGET, STAGE_TARGET, TARGETS, Toolchain};
use crate::workspace::Workspace;
use crate::{command, files};

/// A Cargo project that contains stages.
#[derive(Debug)]
pub(crate) struct Project {
    manifest: PathBuf,
    profile: &'static str,
    pub(crate) stages: Vec<Stage>,
}

/// A package that is built as a component.
#[derive(Debug)]
pub(crate) struct Stage {
    /// The package's name, which is also the component file's name.
    pub(crate) package: String,
    /// The library's name, with underscores instead of dashes.
    library: String,
    /// The compilation target: `package.metadata.logship.target` in the manifest.
    target: String,
    /// True if the package is a fuse adapter: `package.metadata.logship.role` in the manifest is `fuse-adapter`.
    pub(crate) is_fuse_adapter: bool,
}

impl Stage {
    /// Returns true if the package is a function, not a stage.
    pub(crate) fn is_function(&self) -> bool {
        self.target == FUNCTION_TARGET
    }
}

impl Project {
    /// Returns the stages in components/.
    pub(crate) fn of_workspace(workspace: &Workspace) -> Result<Self> {
        let manifest = workspace.path("Cargo.toml");
        let mut stages = stages_of(workspace, &manifest)?;
        stages.retain(|(_, folder)| folder.starts_with(workspace.path("components")));
        Ok(Self { manifest, profile: "stage", stages: stages.into_iter().map(|(stage, _)| stage).collect() })
    }

    /// Returns the stages of a separate project, to be built as its author would. Excludes packages outside the
    /// project's folder, which are members of a surrounding workspace.
    pub(crate) fn standalone(workspace: &Workspace, manifest: &Path) -> Result<Self> {
        let mut stages = stages_of(workspace, manifest)?;
        stages.retain(|(_, folder)| manifest.parent().is_some_and(|parent| folder.starts_with(parent)));
        let stages = stages.into_iter().map(|(stage, _)| stage).collect();
        Ok(Self { manifest: manifest.to_owned(), profile: "release", stages })
    }

    /// Moves the stages for which `is_other` returns true to a new project, and returns it.
    pub(crate) fn split_off(&mut self, is_other: impl Fn(&Stage) -> bool) -> Self {
        let (others, own) = std::mem::take(&mut self.stages).into_iter().partition(|stage| is_other(stage));
        self.stages = own;
        Self { manifest: self.manifest.clone(), profile: self.profile, stages: others }
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.stages.iter().map(|stage| &*stage.package).collect()
    }

    /// Builds the components, and writes them to `folder` as NAME.wasm. Fuse adapters are not stages, and go to the
    /// sibling folder `fuse-adapters`.
    pub(crate) fn build(&self, workspace: &Workspace, toolchain: &Toolchain, folder: &Path) -> Result<()> {
        files::make_dir(folder)?;
        if self.stages.is_empty() {
            return Ok(());
        }
        let target_dir = workspace.target("guests");
        let adapters = folder.with_file_name("fuse-adapters");
        files::make_dir(&adapters)?;
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
            let folder = if stage.is_fuse_adapter { &adapters } else { folder };
            let component = folder.join(&stage.package).with_extension("wasm");
            if files::copy_if_changed(&built.join(&stage.library).with_extension("wasm"), &component)? {
                let size = fs::metadata(&component)?.len() / 1024;
                println!("  {} ({size} KiB)", workspace.relative(&component).display());
            }
        }
        Ok(())
    }
}

/// Removes components of stages that no longer exist, as the program would still embed them.
pub(crate) fn remove_obsolete(folder: &Path, stages: &[Stage]) -> Result<()> {
    for path in files::list(folder)? {
        let known = stages.iter().any(|stage| path.file_stem().is_some_and(|stem| *stem == *stage.package));
        if path.extension().is_some_and(|suffix| suffix == "wasm") && !known {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// Returns the project's packages with a `cdylib` target, each with its folder.
fn stages_of(workspace: &Workspace, manifest: &Path) -> Result<Vec<(Stage, PathBuf)>> {
    Ok(packages(workspace, manifest)?.iter().filter_map(stage_of).collect())
}

fn stage_of(package: &Value) -> Option<(Stage, PathBuf)> {
    let is_cdylib = |target: &&Value| {
        target["crate_types"].as_array().is_some_and(|types| types.iter().any(|kind| kind == "cdylib"))
    };
    let target = package["targets"].as_array()?.iter().find(is_cdylib)?;
    let stage = Stage {
        package: package["name"].as_str()?.to_owned(),
        library: target["name"].as_str()?.replace('-', "_"),
        target: package["metadata"]["logship"]["target"].as_str().unwrap_or(STAGE_TARGET).to_owned(),
        is_fuse_adapter: package["metadata"]["logship"]["role"] == "fuse-adapter",
    };
    let manifest = Path::new(package["manifest_path"].as_str()?);
    Some((stage, manifest.parent()?.to_owned()))
}
