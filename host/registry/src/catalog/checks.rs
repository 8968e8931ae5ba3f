//! The checks before a change: the kind, the pin, and the rules that use the name.

use std::sync::Arc;

use logship_logstore::StageAlias;
use logship_runtime::stage::Stage;

use super::rule_check::all_rules;
use super::{BUILT_IN, CatalogError, RuleCheck, RuleRef, StageCatalog, lock};
use crate::{Registry, VERSION_SEPARATOR};

impl StageCatalog {
    /// Checks all rules with their current stages. The result is cached until the catalog changes.
    pub fn rule_checks(&self) -> Arc<Vec<RuleCheck>> {
        let catalog = self.store.catalog();
        let cached = lock(&self.cached_checks).clone();
        if let Some((_, checks)) = cached.filter(|(cached, _)| Arc::ptr_eq(cached, &catalog)) {
            return checks;
        }
        let checks: Vec<RuleCheck> =
            all_rules(&catalog).map(|rule_ref| self.check_rule(rule_ref, &self.registry)).collect();
        let checks = Arc::new(checks);
        *lock(&self.cached_checks) = Some((catalog, Arc::clone(&checks)));
        checks
    }

    fn check_rule(&self, rule_ref: RuleRef, registry: &Registry) -> RuleCheck {
        let (registry, requested) = registry.record_names();
        let problem = self.checker.problem(&rule_ref, &registry);
        let names = std::mem::take(&mut *lock(&requested));
        RuleCheck { rule_ref, names, problem }
    }

    pub(super) fn check_kind(
        &self,
        name: &str,
        alias: Option<&StageAlias>,
        stage: &Stage,
    ) -> Result<(), CatalogError> {
        let found = stage.kind().to_string();
        let expected = match alias {
            Some(alias) => Some(alias.kind.clone()),
            None if Registry::built_in_digest(name).is_some() => {
                Some(self.registry.stage(None, name)?.kind().to_string())
            }
            None => None,
        };
        match expected {
            Some(expected) if expected != found => {
                let (name, stage) = (name.to_owned(), stage.identity().to_string());
                Err(CatalogError::Kind { name, stage, found, expected })
            }
            _ => Ok(()),
        }
    }

    /// Checks all rules that use a name with another stage, and returns these rules. A rule that fails already with the
    /// current stage is ignored.
    pub(super) fn check_rules(&self, name: &str, stage: &Stage) -> Result<Vec<String>, CatalogError> {
        let registry = self.registry.with_override(name, stage.clone());
        let mut rules = vec![];
        for rule_ref in all_rules(&self.store.catalog()) {
            let check = self.check_rule(rule_ref, &registry);
            if !check.names.contains(name) {
                continue;
            }
            let rule = check.rule_ref.to_string();
            if let Some(problem) = check.problem
                && self.check_rule(check.rule_ref, &self.registry).problem.is_none()
            {
                let (name, stage) = (name.to_owned(), stage.identity().to_string());
                return Err(CatalogError::RuleFails { name, stage, rule, problem });
            }
            rules.push(rule);
        }
        Ok(rules)
    }

    pub(super) fn check_unused(&self, name: &str) -> Result<(), CatalogError> {
        let checks = self.rule_checks();
        let by: Vec<String> = checks
            .iter()
            .filter(|check| check.names.contains(name))
            .map(|check| check.rule_ref.to_string())
            .collect();
        if by.is_empty() { Ok(()) } else { Err(CatalogError::InUse { name: name.to_owned(), by }) }
    }

    pub(super) fn check_unused_versions(&self, name: &str, alias: &StageAlias) -> Result<(), CatalogError> {
        let mut versions = alias.versions.iter();
        versions.try_for_each(|version| {
            self.check_unused(&format!("{name}{VERSION_SEPARATOR}{}", version.version))
        })
    }
}

pub(super) fn check_pinned(name: &str, alias: Option<&StageAlias>) -> Result<(), CatalogError> {
    match alias {
        Some(alias) if alias.pinned => {
            let current = alias.current.as_ref().filter(|current| current.digest.is_some());
            let version = current.map_or(BUILT_IN.into(), |current| current.version.clone());
            Err(CatalogError::Pinned { name: name.to_owned(), version })
        }
        _ => Ok(()),
    }
}
