//! Files of settings and rules.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use logship_config::rule::{Rule, RuleError};
use logship_config::rule_file::RuleFile;
use logship_config::service::Config;

use super::Failure;

/// Reads a settings file, or returns the defaults without one. Does not check the settings yet.
pub(super) fn read(file: Option<&Path>) -> Result<Config, Failure> {
    let Some(file) = file else { return Ok(Config::default()) };
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let config = Config::parse(&text, file)?;
    if config.has_secrets() {
        warn_if_readable(file);
    }
    Ok(config)
}

/// Warns if other users can read a file with secrets. This is not an error, because secrets mounted by Kubernetes are
/// readable by all users of the container.
fn warn_if_readable(file: &Path) {
    let mode = std::fs::metadata(file).map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o077 != 0 {
        let file = file.display();
        tracing::warn!(%file, "the settings have secrets, but other users can read them: run chmod 600 {file}");
    }
}

/// Reads a rule that ships objects, or returns the default without a file. Does not check the rule yet.
pub(super) fn read_rule(file: Option<&Path>) -> Result<Rule, RuleError> {
    let Some(file) = file else { return Ok(Rule::default()) };
    Rule::parse(&text(file)?, file)
}

/// Reads a file of rules. Does not check the rules yet.
pub(super) fn read_rules(file: &Path) -> Result<RuleFile, RuleError> {
    RuleFile::parse(&text(file)?, file)
}

fn text(file: &Path) -> Result<String, RuleError> {
    std::fs::read_to_string(file).map_err(|error| RuleError::file(file, error))
}
