use anyhow::{Result, bail};

use crate::stages::{Project, Stage};
use crate::toolchain::Toolchain;
use crate::workspace::Workspace;
use crate::{command, files, stages};

/// The kinds of stages that `logship stage new` supports.
const KINDS: [&str; 6] = ["transformer", "encoder", "compressor", "renderer", "formatter", "row-encoder"];

/// Options of a build.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// Also the stages of examples/, and of the templates of `logship stage new`.
    pub(crate) examples: bool,
    /// Skips the program.
    pub(crate) stages_only: bool,
    /// Packages of the stages to build. Empty means all.
    pub(crate) only: Vec<String>,
}

/// Builds the stages, and then the program, which embeds them.
pub(crate) fn run(workspace: &Workspace, options: Options) -> Result<()> {
    let toolchain = Toolchain::find(workspace)?;
    println!("stages: compiled by {toolchain}");
    build_stages(workspace, &toolchain, &options.only)?;
    if options.examples {
        build_examples(workspace, &toolchain)?;
    }
    if options.stages_only {
        return Ok(());
    }
    command::run(workspace.cargo().args(["build", "--release", "--package", "logship"]))?;
    if options.examples { build_templates(workspace, &toolchain) } else { Ok(()) }
}

fn build_stages(workspace: &Workspace, toolchain: &Toolchain, only: &[String]) -> Result<()> {
    let mut project = Project::of_workspace(workspace)?;
    if let Some(unknown) = only.iter().find(|name| project.stages.iter().all(|stage| stage.package != **name))
    {
        bail!("no stage {unknown:?} in components/; its stages are: {}", project.names().join(", "));
    }
    // Functions have a separate folder, as the program embeds each file of the stages' folder as a stage.
    let functions = project.split_off(Stage::is_function);
    for (folder, mut project) in [("components", project), ("functions", functions)] {
        let folder = workspace.target(folder);
        stages::remove_obsolete(&folder, &project.stages)?;
        project.stages.retain(|stage| only.is_empty() || only.contains(&stage.package));
        project.build(workspace, toolchain, &folder)?;
    }
    Ok(())
}

/// Builds a new Rust stage of each kind from the templates of `logship stage new`.
fn build_templates(workspace: &Workspace, toolchain: &Toolchain) -> Result<()> {
    let (projects, folder) = (workspace.target("templates"), workspace.target("components-templates"));
    files::remove_dir(&projects)?;
    files::make_dir(&projects)?;
    let mut stages = vec![];
    for kind in KINDS {
        let name = format!("new-{kind}");
        let mut make = workspace.command(workspace.program());
        make.current_dir(&projects).args(["stage", "new", &name, "--kind", kind, "--lang", "rust"]);
        command::run(&mut make)?;
        let project = Project::standalone(workspace, &projects.join(name).join("Cargo.toml"))?;
        project.build(workspace, toolchain, &folder)?;
        stages.extend(project.stages);
    }
    stages::remove_obsolete(&folder, &stages)
}

/// Builds the stages with separate workspaces: examples and test stages.
fn build_examples(workspace: &Workspace, toolchain: &Toolchain) -> Result<()> {
    let folder = workspace.target("components-examples");
    let mut stages = vec![];
    let folders = ["examples", "tests"].map(|parent| files::list(&workspace.path(parent)));
    for dir in folders.into_iter().collect::<Result<Vec<_>>>()?.concat() {
        let manifest = dir.join("Cargo.toml");
        if manifest.exists() {
            let project = Project::standalone(workspace, &manifest)?;
            project.build(workspace, toolchain, &folder)?;
            stages.extend(project.stages);
        }
    }
    stages::remove_obsolete(&folder, &stages)
}
