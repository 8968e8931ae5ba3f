//! The rules that use stages, for who changes what a name stands for.

use std::sync::Arc;

use crate::registry::Registry;
use crate::registry::book::{User, Users};
use crate::shipping::Shipper;
use crate::siem::rule::{SIEM, SiemRule};
use crate::siem::rules::Rules;

/// The rules of a service: those that write objects, and those that send to SIEMs.
#[derive(Debug)]
pub(crate) struct RuleUsers {
    pub(crate) shipper: Arc<Shipper>,
    pub(crate) siem: Arc<Rules>,
}

impl Users for RuleUsers {
    fn problem(&self, user: &User, registry: &Registry) -> Option<String> {
        let rule = &user.rule;
        if rule.target == SIEM {
            let parsed = SiemRule::of(&rule.name, &rule.configuration).map_err(|error| error.to_string());
            let checked = parsed
                .and_then(|rule| self.siem.check_with(&rule, registry).map_err(|error| error.to_string()));
            return checked.err();
        }
        Shipper::check_stages(rule, registry).err().map(|error| error.to_string())
    }

    fn changed(&self) {
        self.shipper.hurry();
        self.siem.hurry();
    }
}
