//! Rules, and their checks with the stages of a registry.

use std::collections::BTreeSet;

use logship_logstore::{Catalog, ShippingRule};

use crate::Registry;

/// A rule with its project and logstore.
#[derive(Debug, Clone)]
pub struct RuleRef {
    /// The project of its logstore.
    pub project: String,
    /// The logstore.
    pub logstore: String,
    /// The rule.
    pub rule: ShippingRule,
}

impl std::fmt::Display for RuleRef {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} of {}/{}", self.rule.name, self.project, self.logstore)
    }
}

/// The result of checking a rule with the stages of a registry.
#[derive(Debug, Clone)]
pub struct RuleCheck {
    /// The rule.
    pub rule_ref: RuleRef,
    /// The stage names that the rule uses, as the rule writes them.
    pub names: BTreeSet<String>,
    /// Why the rule can't run with these stages.
    pub problem: Option<String>,
}

/// Checks the rules that use stages.
pub trait RuleChecker: std::fmt::Debug + Send + Sync {
    /// Returns why a rule can't run with the stages of a registry, or none if it can.
    fn problem(&self, rule_ref: &RuleRef, registry: &Registry) -> Option<String>;

    /// Called after a name was changed.
    fn stages_changed(&self);
}

/// All rules of all logstores.
pub(super) fn all_rules(catalog: &Catalog) -> impl Iterator<Item = RuleRef> + use<'_> {
    catalog.logstores().flat_map(|logstore| {
        logstore.rules.values().map(|rule| RuleRef {
            project: logstore.project.clone(),
            logstore: logstore.name.clone(),
            rule: rule.clone(),
        })
    })
}
