//! Rules as a file or the options of a command want them.

use std::path::Path;

use logship_config::maxcompute_rule::{MaxComputeRule, ODPS};
use logship_config::rule::{Rule, RuleError};
use logship_config::rule_file::RuleFile;
use logship_config::shipper_config;
use logship_config::siem_rule::{SIEM, SiemRule};
use logship_config::table_store_rule::{OTS, TableStoreRule};
use serde_json::{Value, json};

use crate::commands::settings;
use crate::print::errln;

/// A rule to create or update.
pub(super) struct DesiredRule {
    pub(super) logstore: String,
    pub(super) name: String,
    pub(super) kind: RuleKind,
}

/// A rule's kind and settings.
pub(super) enum RuleKind {
    Objects(Box<Rule>),
    Siem(SiemRule),
    TableStore(Box<TableStoreRule>),
    MaxCompute(Box<MaxComputeRule>),
}

impl DesiredRule {
    pub(super) fn check(&self) -> Result<(), RuleError> {
        match &self.kind {
            RuleKind::Objects(rule) => rule.check(),
            RuleKind::Siem(rule) => rule.check(),
            RuleKind::TableStore(rule) => rule.check(),
            RuleKind::MaxCompute(rule) => rule.check(),
        }
    }

    /// Warns about columns that readers confuse.
    pub(super) fn warn_of_columns(&self) {
        if let RuleKind::Objects(rule) = &self.kind {
            for warning in rule.column_warnings() {
                errln!("warning: {}: {warning}", self.name);
            }
        }
    }

    pub(super) fn configuration(&self) -> Value {
        match &self.kind {
            RuleKind::Objects(rule) => shipper_config::from_rule(rule),
            RuleKind::Siem(rule) => rule.configuration(),
            RuleKind::TableStore(rule) => rule.configuration(),
            RuleKind::MaxCompute(rule) => rule.configuration(),
        }
    }

    pub(super) fn body(&self) -> Value {
        let target_type = match &self.kind {
            RuleKind::Objects(_) => shipper_config::OSS,
            RuleKind::Siem(_) => SIEM,
            RuleKind::TableStore(_) => OTS,
            RuleKind::MaxCompute(_) => ODPS,
        };
        json!({ "shipperName": self.name, "targetType": target_type, "targetConfiguration": self.configuration() })
    }
}

/// Reads the rules of a file.
pub(super) fn read(file: &Path) -> Result<Vec<DesiredRule>, RuleError> {
    let RuleFile { rules, siem, ots, odps } = settings::read_rules(file)?;
    let objects = rules
        .into_iter()
        .map(|rule| (rule.logstore.clone(), rule.name.clone(), RuleKind::Objects(Box::new(rule))));
    let siem = siem.into_iter().map(|rule| (rule.logstore.clone(), rule.name.clone(), RuleKind::Siem(rule)));
    let tables = ots
        .into_iter()
        .map(|rule| (rule.logstore.clone(), rule.name.clone(), RuleKind::TableStore(Box::new(rule))));
    let rows = odps
        .into_iter()
        .map(|rule| (rule.logstore.clone(), rule.name.clone(), RuleKind::MaxCompute(Box::new(rule))));
    let desired = |(logstore, name, kind)| DesiredRule { logstore, name, kind };
    Ok(objects.chain(siem).chain(tables).chain(rows).map(desired).collect())
}
