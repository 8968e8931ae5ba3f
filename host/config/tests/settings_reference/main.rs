//! Renders `docs/settings.md` from the structs and their doc comments, and proves that the page is current.
//!
//! `BLESS=1 cargo test -p logship-config` renews the page.

mod page;
mod sections;
mod table;

use std::path::Path;

use logship_config::rule_file::RuleFile;
use logship_config::schema;
use logship_config::service::Config;
use serde_json::Value;

use crate::sections::{keys, rules, settings};

#[test]
fn page_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/settings.md");
    let page = page::render();
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let current = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(current == page, "docs/settings.md is outdated: run BLESS=1 cargo test -p logship-config");
}

#[test]
fn examples_are_valid() {
    let join = |sections: Vec<sections::Section>| {
        sections.into_iter().map(|section| section.example).collect::<Vec<_>>().join("\n")
    };
    let config = Config::parse(&join(settings()), Path::new("logship.toml")).unwrap();
    config.check().unwrap();
    assert!(config.tls.is_some() && config.has_secrets());
    let file = RuleFile::parse(&join(rules()), Path::new("rules.toml")).unwrap();
    for rule in &file.rules {
        rule.check().unwrap();
    }
    for rule in &file.siem {
        rule.check().unwrap();
    }
    for rule in &file.ots {
        rule.check().unwrap();
    }
    for rule in &file.odps {
        rule.check().unwrap();
    }
    assert!(!file.odps.is_empty());
    assert!(!file.rules.is_empty() && !file.siem.is_empty() && !file.ots.is_empty());
    let file = logship_config::key::Keys::parse(&join(keys())).unwrap();
    assert_eq!(file.keys.len(), 1);
}

#[test]
fn schemas_accept_what_the_parsers_accept() {
    let join = |sections: Vec<sections::Section>| {
        sections.into_iter().map(|section| section.example).collect::<Vec<_>>().join("\n")
    };
    let (config, file) = (schema::of::<Config>().to_value(), schema::of::<RuleFile>().to_value());
    assert!(
        is_valid(&config, &join(settings()))
            && is_valid(&config, include_str!("../../../../deploy/logship.toml"))
    );
    assert!(is_valid(&file, &join(rules())));
    let inline = "[[rule]]\nlogstore = 'a'\n[rule.destination]\ntype = 's3'\naccess-key-id = 'a'\naccess-key-secret = 'b'";
    assert!(is_valid(&file, inline));
    for invalid in [
        "lissten = '127.0.0.1:1'",
        "[limits]\ngroup-bytes = 1",
        "[limits]\nshards = 'many'",
        "[destinations.x]\ntype = 'azure'",
        "[destinations.x]\ntype = 's3'\ntoken = 't'",
        "[receivers.r]\ntype = 'syslog'\nhost = 'h'\nprotocol = 'quic'",
        "[sources.s]\ntype = 'kafka'",
        "[sources.s]\ntype = 'loghub'\nunknown = 1",
    ] {
        assert!(!is_valid(&config, invalid), "{invalid}");
        let parsed = Config::parse(invalid, Path::new("x")).ok();
        assert!(parsed.is_none_or(|config| config.check().is_err()), "{invalid}");
    }
    for invalid in ["size_mb = 257", "partition_by = 'week'", "transform = [1]", "format = { columns = [] }"]
    {
        let invalid = format!("[[rule]]\nname = 'a-1'\n{invalid}");
        assert!(!is_valid(&file, &invalid), "{invalid}");
        let parsed = RuleFile::parse(&invalid, Path::new("x")).ok();
        assert!(parsed.is_none_or(|file| file.rules[0].check().is_err()), "{invalid}");
    }
}

/// Validates TOML as an editor does.
fn is_valid(schema: &Value, text: &str) -> bool {
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler.add_resource("file.json", schema.clone()).unwrap();
    let index = compiler.compile("file.json", &mut schemas).unwrap();
    let value: Value = toml::from_str(text).unwrap();
    schemas.validate(&value, index).is_ok()
}

#[test]
fn every_setting_has_a_description() {
    for section in settings().into_iter().chain(rules()).chain(keys()) {
        for row in table::rows(&section.schema, &section.order) {
            assert!(row.meaning.len() > 8, "{}: {} has no description", section.heading, row.name);
        }
    }
}
