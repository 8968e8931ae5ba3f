//! Checks the service's rules when the stage catalog changes.

use std::sync::Arc;

use logship_config::siem_rule::{SIEM, SiemRule};
use logship_delivery::engine::Shipper;
use logship_delivery::events::rules::Rules;
use logship_registry::Registry;
use logship_registry::catalog::{RuleChecker, RuleRef};

/// The rules of a service, for object stores and for SIEMs.
#[derive(Debug)]
pub(crate) struct ServiceRules {
    pub(crate) shipper: Arc<Shipper>,
    pub(crate) siem: Arc<Rules>,
}

impl RuleChecker for ServiceRules {
    fn problem(&self, rule_ref: &RuleRef, registry: &Registry) -> Option<String> {
        let rule = &rule_ref.rule;
        if rule.target == SIEM {
            let parsed = SiemRule::of(&rule.name, &rule.configuration).map_err(|error| error.to_string());
            let checked = parsed
                .and_then(|rule| self.siem.check_with(&rule, registry).map_err(|error| error.to_string()));
            return checked.err();
        }
        Shipper::check_stages(rule, registry).err().map(|error| error.to_string())
    }

    fn stages_changed(&self) {
        self.shipper.wake();
        self.siem.wake();
    }
}
