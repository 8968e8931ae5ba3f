use logship_stage::transform::{Description, Transformed};
use logship_stage::{Batch, Result, Transformer, config};

use crate::Config;
use crate::filter::{Filter, Kept};
use crate::parse::Parser;
use crate::reshape::Reshape;

/// Filters logs, redacts and reshapes their fields.
#[derive(Debug)]
pub struct FieldsTransformer {
    filter: Filter,
    parser: Parser,
    reshape: Reshape,
}

impl Transformer for FieldsTransformer {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            config_schema: config::schema::<Config>(),
        }
    }

    fn open(text: &str) -> Result<Self> {
        let config: Config = config::parse(text)?;
        Ok(Self {
            filter: Filter::of(&config)?,
            parser: Parser::of(&config)?,
            reshape: Reshape::of(&config)?,
        })
    }

    fn push(&mut self, batch: Batch) -> Result<Transformed> {
        let kept = self.filter.apply(&batch);
        if self.parser.is_empty() {
            return Ok(self.reshape.apply(batch, &kept));
        }
        let Transformed { batch, logs } = self.parser.apply(&batch, &kept);
        let transformed = self.reshape.apply(Batch::new(batch)?, &Kept::All);
        // `reshape` keeps all parsed logs.
        Ok(Transformed { batch: transformed.batch, logs })
    }
}

#[cfg(test)]
mod tests;
