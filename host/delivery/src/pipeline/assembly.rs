//! Selects and combines the stages of a rule.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::pipeline::{Bytes, PipelineError, text};
use logship_config::rule::{NONE, Rule, RuleError};
use logship_registry::Registry;
use logship_runtime::stage::{
    CompressorStage, EncoderStage, FusedStage, PackedPlace, PackerStage, StageError, SuffixPlace,
};

/// Returns the rule with the format and compression of its fused pipeline, unless the rule sets them.
///
/// # Errors
/// [`RuleError::Field`], if the rule sets another format or compression than the pipeline has.
pub(super) fn with_fused_formats(fused: Option<&FusedStage>, rule: &Rule) -> Result<Rule, RuleError> {
    let mut rule = rule.clone();
    let Some(fused) = fused else { return Ok(rule) };
    let name = fused.identity().name();
    if rule.format.name == Rule::default().format.name {
        rule.format.name = fused.format().to_owned();
    } else if rule.format.name != fused.format() {
        let problem = format!(
            "{:?} is not what the pipeline makes: {name} makes {}; remove one of them",
            rule.format.name,
            fused.format()
        );
        return Err(RuleError::field("format", problem));
    }
    let Some(makes) = fused.compression() else { return Ok(rule) };
    if rule.compression.name == NONE && rule.compression.settings.is_empty() {
        rule.compression.name = makes.to_owned();
    } else if rule.compression.name != makes {
        let problem = format!(
            "{:?} is not what the pipeline makes: {name} makes {makes}; remove one of them",
            rule.compression.name
        );
        return Err(RuleError::field("compression", problem));
    }
    Ok(rule)
}

/// Gives a rule the format and compression of its fused pipeline, if it has one and does not set them itself.
///
/// # Errors
/// If the pipeline does not exist, or the rule sets another format or compression.
pub fn adopt_fused_formats(rule: &mut Rule, registry: &Registry) -> Result<(), PipelineError> {
    if let Some(name) = &rule.stages.pipeline {
        *rule = with_fused_formats(Some(&*registry.fused(name)?), rule)?;
    }
    Ok(())
}

/// Combines an encoder and a compressor in one component. Returns the suffix of the keys as well.
pub(super) fn packed(packer: &Arc<PackerStage>, rule: &Rule) -> (Bytes, String) {
    let about = packer.description();
    let suffix = join_suffixes(
        &about.encoder.suffix,
        &about.compressor.suffix,
        match about.compressor.suffix_place {
            PackedPlace::BeforeFormat => SuffixPlace::BeforeFormat,
            PackedPlace::AfterFormat => SuffixPlace::AfterFormat,
        },
    );
    let bytes = Bytes::Packed {
        packer: Arc::clone(packer),
        config: text(&rule.format.settings),
        compressor_config: text(&rule.compression.settings),
    };
    (bytes, suffix)
}

/// Combines an encoder with the compressor of the rule. Returns the suffix of the keys as well.
pub(super) fn separate(
    registry: &Registry,
    rule: &Rule,
    encoder: Arc<EncoderStage>,
) -> Result<(Bytes, String), PipelineError> {
    let mut config = rule.format.settings.clone();
    let compressor = compressor(registry, rule, &encoder, &mut config)?;
    let suffix = suffix(rule, &encoder, compressor.as_deref());
    let compressor = compressor.map(|stage| (stage, text(&rule.compression.settings)));
    Ok((Bytes::Separate { encoder, config: text(&config), compressor }, suffix))
}

pub(super) fn encoder(registry: &Registry, rule: &Rule) -> Result<Arc<EncoderStage>, PipelineError> {
    if let Some(name) = &rule.stages.encoder {
        return Ok(registry.encoder(name)?);
    }
    registry.encoder(&format!("encode-{}", rule.format.name)).map_err(|error| match error {
        StageError::Unknown { known, .. } => {
            let known = known.iter().filter_map(|name| name.strip_prefix("encode-")).collect::<Vec<_>>();
            let problem = format!("unknown format {:?}; available: {}", rule.format.name, known.join(", "));
            RuleError::field("format", problem).into()
        }
        error => error.into(),
    })
}

/// Returns the compressor of the rule. `None` if the encoder compresses inside its format: its configuration
/// then gets the compression.
fn compressor(
    registry: &Registry,
    rule: &Rule,
    encoder: &EncoderStage,
    encoder_config: &mut Map<String, Value>,
) -> Result<Option<Arc<CompressorStage>>, PipelineError> {
    let wanted = &rule.compression.name;
    let inner = &encoder.description().compressions;
    let format = &encoder.description().format;
    let settings = &rule.compression.settings;
    if (wanted == NONE && rule.stages.compressor.is_none() || !inner.is_empty()) && !settings.is_empty() {
        let problem = format!(
            "{wanted:?} takes no settings with {format}: remove {:?}",
            settings.keys().collect::<Vec<_>>()
        );
        return Err(RuleError::field("compression", problem).into());
    }
    if !inner.is_empty() {
        check_inner_compression(rule, encoder, encoder_config)?;
        encoder_config.insert("compression".into(), json!(wanted));
        return Ok(None);
    }
    if let Some(name) = &rule.stages.compressor {
        let stage = registry.compressor(name)?;
        let makes = &stage.description().compression;
        if wanted != NONE && wanted != makes {
            let problem =
                format!("{name} makes {makes:?}, but compression = {wanted:?}; set only one of them");
            return Err(RuleError::field("stages.compressor", problem).into());
        }
        return Ok(Some(stage));
    }
    if wanted == NONE {
        return Ok(None);
    }
    registry.compressor(&format!("compress-{wanted}")).map(Some).map_err(|error| match error {
        StageError::Unknown { known, .. } => {
            let known = known.iter().filter_map(|name| name.strip_prefix("compress-")).collect::<Vec<_>>();
            let problem = format!("unknown compression {wanted:?}; available: {NONE}, {}", known.join(", "));
            RuleError::field("compression", problem).into()
        }
        error => error.into(),
    })
}

/// Checks the compression of a rule whose encoder compresses inside its format.
fn check_inner_compression(
    rule: &Rule,
    encoder: &EncoderStage,
    encoder_config: &Map<String, Value>,
) -> Result<(), PipelineError> {
    let wanted = &rule.compression.name;
    let inner = &encoder.description().compressions;
    let format = &encoder.description().format;
    if encoder_config.contains_key("compression") {
        let problem = "the rule sets the format's compression: use the rule's `compression` instead";
        return Err(RuleError::field("format", problem).into());
    }
    if let Some(name) = &rule.stages.compressor {
        let problem = format!(
            "{format} is compressed inside its format, so no compressor ({name}) can follow {}. Remove the compressor, and set compression = {:?}",
            encoder.identity().name(),
            inner[0].name,
        );
        return Err(RuleError::field("stages.compressor", problem).into());
    }
    if wanted != NONE && !inner.iter().any(|inner| inner.name == *wanted) {
        let known: Vec<_> = inner.iter().map(|inner| inner.name.clone()).collect();
        let problem =
            format!("{format} has no compression {wanted:?}; available: {NONE}, {}", known.join(", "));
        return Err(RuleError::field("compression", problem).into());
    }
    Ok(())
}

/// Returns the suffixes of format and compression, in their order.
fn suffix(rule: &Rule, encoder: &EncoderStage, compressor: Option<&CompressorStage>) -> String {
    let format = &encoder.description().suffix;
    let inner = encoder.description().compressions.iter().find(|inner| inner.name == rule.compression.name);
    match (inner, compressor.map(CompressorStage::description)) {
        (Some(inner), _) => format!("{}{format}", inner.suffix),
        (None, None) => format.clone(),
        (None, Some(compressor)) => join_suffixes(format, &compressor.suffix, compressor.suffix_place),
    }
}

fn join_suffixes(format: &str, compression: &str, place: SuffixPlace) -> String {
    match place {
        SuffixPlace::BeforeFormat => format!("{compression}{format}"),
        SuffixPlace::AfterFormat => format!("{format}{compression}"),
    }
}
