//! What a build with cargo made, by its messages.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// The features of each package from a registry. A package has several sets if build scripts or macros use it too.
#[derive(Debug, Default)]
pub(crate) struct Artifacts(BTreeMap<String, Vec<BTreeSet<String>>>);

impl Artifacts {
    /// Parses the output of a build with `--message-format json`.
    pub(crate) fn parse(messages: &str) -> Result<Self> {
        let mut artifacts = Self::default();
        for line in messages.lines() {
            let message: Value =
                serde_json::from_str(line).context("cargo printed something else than JSON")?;
            let package = message["package_id"].as_str().unwrap_or_default();
            if message["reason"] == "compiler-artifact" && package.starts_with("registry+") {
                let features = message["features"].as_array().into_iter().flatten();
                let features = features.filter_map(Value::as_str).map(str::to_owned).collect();
                artifacts.0.entry(package.to_owned()).or_default().push(features);
            }
        }
        Ok(artifacts)
    }

    /// Returns the packages that `others` has too, but with more features. Those with fewer are of macros.
    pub(crate) fn differences(&self, others: &Self) -> Vec<String> {
        let is_known = |package: &String, features: &BTreeSet<String>| {
            self.0[package].iter().any(|known| features.is_subset(known))
        };
        let differs =
            |package: &String| others.0[package].iter().any(|features| !is_known(package, features));
        let shared = others.0.keys().filter(|package| self.0.contains_key(*package));
        let name = |package: &String| package.rsplit('#').next().unwrap_or_default().to_owned();
        shared.filter(|package| differs(package)).map(name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_with_other_features_are_found() {
        let message = |package: &str, features: &str| {
            format!(r#"{{"reason":"compiler-artifact","package_id":"{package}","features":[{features}]}}"#)
        };
        let parse = |messages: &[String]| Artifacts::parse(&messages.join("\n")).unwrap();
        let program = parse(&[
            message("registry+r#wasmtime@48.0.8", r#""std","cache""#),
            message("registry+r#syn@2.0.1", ""),
            message("registry+r#syn@2.0.1", r#""full""#),
        ]);
        let same = [
            message("registry+r#syn@2.0.1", r#""full""#),
            message("registry+r#wasmtime@48.0.8", r#""cache""#),
            message("registry+r#tempfile@3.0.0", ""),
            message("path+file:///host#logship@0.1.0", r#""failpoints""#),
        ];
        assert_eq!(program.differences(&parse(&same)), Vec::<String>::new());
        let other = [message("registry+r#wasmtime@48.0.8", r#""std","gc""#)];
        assert_eq!(program.differences(&parse(&other)), ["wasmtime@48.0.8"]);
        assert!(Artifacts::parse("warning: text").is_err());
    }
}
