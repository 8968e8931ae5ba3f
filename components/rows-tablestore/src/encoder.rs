use logship_stage::mapping::Mapping;
use logship_stage::rows::{Description, DirtyValue, Positions, Rows, Table};
use logship_stage::{Batch, Error, Result, RowEncoder, config};

use crate::Config;

/// Encodes logs as PlainBuffer rows.
#[derive(Debug)]
pub struct TableStoreRows {
    mapping: Mapping,
}

impl RowEncoder for TableStoreRows {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            protocols: vec!["tablestore".into()],
            config_schema: config::schema::<Config>(),
        }
    }

    fn open(text: &str, table: &Table) -> Result<Self> {
        let config: Config = config::parse(text)?;
        if table.key.is_empty() {
            return Err(Error::table("", "it has no primary key"));
        }
        let mapping = Mapping::new(&config.columns, table, |mapped, name| mapped == name)?;
        Ok(Self { mapping })
    }

    fn push(&mut self, batch: &Batch, positions: &Positions) -> Result<Rows> {
        let _values = self.mapping.read(batch, positions);
        let reason = "rows of Table Store are not encoded yet";
        let dirty = |log| DirtyValue { log, column: String::new(), reason: reason.into() };
        let dirty = (0..batch.len() as u32).map(dirty).collect();
        Ok(Rows { bytes: vec![], count: 0, ends: vec![], key_ends: vec![], logs: vec![], dirty })
    }

    fn finish(self) -> Result<Vec<u8>> {
        Ok(vec![])
    }
}
