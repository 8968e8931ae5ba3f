//! The stages of a rule, found, and put together.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{Bytes, PipelineError, text};
use crate::registry::Registry;
use crate::rule::{NONE, Rule, RuleError};
use crate::stage::{
    CompressorStage, EncoderStage, FusedStage, PackedPlace, PackerStage, StageError, SuffixPlace,
};

/// The rule, with format and compression as a fused pipeline makes them where the rule leaves them as they are by
/// default.
///
/// # Errors
/// [`RuleError::Field`], where the rule wants what the pipeline does not make.
pub(super) fn adopted(fused: Option<&FusedStage>, rule: &Rule) -> Result<Rule, RuleError> {
    let mut rule = rule.clone();
    let Some(fused) = fused else { return Ok(rule) };
    let name = fused.identity().name();
    if rule.format.name == Rule::default().format.name {
        rule.format.name = fused.format().to_owned();
    } else if rule.format.name != fused.format() {
        let problem = format!(
            "{:?} is not what the pipeline makes: {name} makes {}; take one of them out",
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
            "{:?} is not what the pipeline makes: {name} makes {makes}; take one of them out",
            rule.compression.name
        );
        return Err(RuleError::field("compression", problem));
    }
    Ok(rule)
}

impl Rule {
    /// Takes over format and compression from the rule's fused pipeline, if it has one, where the rule does not say
    /// them.
    ///
    /// # Errors
    /// When there is no such pipeline, or the rule wants what it does not make.
    pub fn adopt(&mut self, registry: &Registry) -> Result<(), PipelineError> {
        if let Some(name) = &self.stages.pipeline {
            *self = adopted(Some(&*registry.fused(name)?), self)?;
        }
        Ok(())
    }
}

/// An encoder and a compressor in one component, and the suffix of its objects.
pub(super) fn packed(packer: &Arc<PackerStage>, rule: &Rule) -> (Bytes, String) {
    let about = packer.description();
    let suffix = joined(
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

/// An encoder, the compressor of the rule behind it, and the suffix of their objects.
pub(super) fn driven(
    registry: &Registry,
    rule: &Rule,
    encoder: Arc<EncoderStage>,
) -> Result<(Bytes, String), PipelineError> {
    let mut config = rule.format.settings.clone();
    let compressor = compressor(registry, rule, &encoder, &mut config)?;
    let suffix = suffix(rule, &encoder, compressor.as_deref());
    let compressor = compressor.map(|stage| (stage, text(&rule.compression.settings)));
    Ok((Bytes::Driven { encoder, config: text(&config), compressor }, suffix))
}

pub(super) fn encoder(registry: &Registry, rule: &Rule) -> Result<Arc<EncoderStage>, PipelineError> {
    if let Some(name) = &rule.stages.encoder {
        return Ok(registry.encoder(name)?);
    }
    registry.encoder(&format!("encode-{}", rule.format.name)).map_err(|error| match error {
        StageError::Unknown { known, .. } => {
            let known = known.iter().filter_map(|name| name.strip_prefix("encode-")).collect::<Vec<_>>();
            let problem = format!("there is no format {:?}; there is {}", rule.format.name, known.join(", "));
            RuleError::field("format", problem).into()
        }
        error => error.into(),
    })
}

/// The compressor behind the encoder; none where the encoder compresses inside its format, which is
/// then put into its configuration.
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
            "{wanted:?} has no settings with {format}: take {:?} out",
            settings.keys().collect::<Vec<_>>()
        );
        return Err(RuleError::field("compression", problem).into());
    }
    if !inner.is_empty() {
        if encoder_config.contains_key("compression") {
            let problem =
                "the format is given its compression by the rule: say compression = … beside [format]";
            return Err(RuleError::field("format", problem).into());
        }
        if let Some(name) = &rule.stages.compressor {
            let problem = format!(
                "{format} is compressed inside its format, so no compressor ({name}) can stand behind {}. Take the compressor out, and say compression = {:?}",
                encoder.identity().name(),
                inner[0].name,
            );
            return Err(RuleError::field("stages.compressor", problem).into());
        }
        if wanted != NONE && !inner.iter().any(|inner| inner.name == *wanted) {
            let known: Vec<_> = inner.iter().map(|inner| inner.name.clone()).collect();
            let problem =
                format!("{format} has no compression {wanted:?}; there is {NONE}, {}", known.join(", "));
            return Err(RuleError::field("compression", problem).into());
        }
        encoder_config.insert("compression".into(), json!(wanted));
        return Ok(None);
    }
    if let Some(name) = &rule.stages.compressor {
        let stage = registry.compressor(name)?;
        let makes = &stage.description().compression;
        if wanted != NONE && wanted != makes {
            let problem =
                format!("{name} makes {makes:?}, and compression = {wanted:?}; name one of them only");
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
            let problem =
                format!("there is no compression {wanted:?}; there is {NONE}, {}", known.join(", "));
            RuleError::field("compression", problem).into()
        }
        error => error.into(),
    })
}

/// The suffixes of format and compression, in their order.
fn suffix(rule: &Rule, encoder: &EncoderStage, compressor: Option<&CompressorStage>) -> String {
    let format = &encoder.description().suffix;
    let inner = encoder.description().compressions.iter().find(|inner| inner.name == rule.compression.name);
    match (inner, compressor.map(CompressorStage::description)) {
        (Some(inner), _) => format!("{}{format}", inner.suffix),
        (None, None) => format.clone(),
        (None, Some(compressor)) => joined(format, &compressor.suffix, compressor.suffix_place),
    }
}

fn joined(format: &str, compression: &str, place: SuffixPlace) -> String {
    match place {
        SuffixPlace::BeforeFormat => format!("{compression}{format}"),
        SuffixPlace::AfterFormat => format!("{format}{compression}"),
    }
}
