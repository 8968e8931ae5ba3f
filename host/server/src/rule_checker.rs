//! Checks the service's rules when the stage catalog changes.

use std::sync::Arc;

use logship_delivery::engine::DeliveryEngine;
use logship_delivery::engine::work::RuleSpec;
use logship_registry::Registry;
use logship_registry::catalog::{RuleChecker, RuleRef};

/// The rules of a service.
#[derive(Debug)]
pub(crate) struct ServiceRules(pub(crate) Arc<DeliveryEngine>);

impl RuleChecker for ServiceRules {
    fn problem(&self, rule_ref: &RuleRef, registry: &Registry) -> Option<String> {
        let RuleRef { project, logstore, rule } = rule_ref;
        let checked = self.0.check_stages(&rule.target, RuleSpec::of(project, logstore, rule), registry);
        checked.err().map(|error| error.to_string())
    }

    fn stages_changed(&self) {
        self.0.wake();
    }
}
