//! Values of the application's variables.

use clap::Args;

/// Options for the values of the application's variables.
#[derive(Debug, Args)]
pub(super) struct VariableOptions {
    /// Sets a variable of the application. For secrets, prefer SPIN_VARIABLE_NAME in the environment. Repeatable.
    #[arg(long = "variable", value_name = "NAME=VALUE", value_parser = assignment)]
    variables: Vec<(String, String)>,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("use NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl VariableOptions {
    /// Returns the value of a variable from the options or the environment.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        let option = self.variables.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.clone());
        option.or_else(|| std::env::var(format!("SPIN_VARIABLE_{}", name.to_uppercase())).ok())
    }
}
