use logship_stage::mapping::Mapping;
use logship_stage::rows::{Description, DirtyValue, Positions, Rows, Table};
use logship_stage::{Batch, Result, RowEncoder, config};

use crate::Config;

/// Encodes logs as blocks of MaxCompute Tunnel.
#[derive(Debug)]
pub struct MaxComputeRows {
    mapping: Mapping,
}

impl RowEncoder for MaxComputeRows {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            protocols: vec!["maxcompute-arrow".into(), "maxcompute-stream".into()],
            config_schema: config::schema::<Config>(),
        }
    }

    fn open(text: &str, table: &Table) -> Result<Self> {
        let config: Config = config::parse(text)?;
        let mapping = Mapping::new(&config.columns, table, str::eq_ignore_ascii_case)?;
        Ok(Self { mapping })
    }

    fn push(&mut self, batch: &Batch, positions: &Positions) -> Result<Rows> {
        let _values = self.mapping.read(batch, positions);
        let reason = "rows of MaxCompute are not encoded yet";
        let dirty = |log| DirtyValue { log, column: String::new(), reason: reason.into() };
        let dirty = (0..batch.len() as u32).map(dirty).collect();
        Ok(Rows { bytes: vec![], count: 0, ends: vec![], key_ends: vec![], logs: vec![], dirty })
    }

    fn finish(self) -> Result<Vec<u8>> {
        Ok(vec![])
    }
}
