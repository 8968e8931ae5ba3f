use logship_stage::columns::Columns;
use logship_stage::encode::{Description, InnerCompression};
use logship_stage::{Batch, Encoder, Result, config};

use crate::Config;
use crate::file::File;

/// A Parquet file in the making.
#[derive(Debug)]
pub struct ParquetEncoder {
    columns: Columns,
    file: File,
}

impl Encoder for ParquetEncoder {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            format: "parquet".into(),
            suffix: ".parquet".into(),
            media_type: "application/vnd.apache.parquet".into(),
            config_schema: config::schema::<Config>(),
            compressions: vec![InnerCompression { name: "snappy".into(), suffix: ".snappy".into() }],
        }
    }

    fn open(text: &str) -> Result<Self> {
        let config = Config::parse(text)?;
        let columns = Columns::new(config.columns.iter().map(|column| column.key.as_str()))?;
        Ok(Self { columns, file: File::new(&config)? })
    }

    fn push(&mut self, batch: &Batch) -> Result<Vec<u8>> {
        let utf8 = batch.values_are_utf8();
        self.columns.for_each_row(batch, |_, cells| self.file.push(cells, utf8))?;
        self.file.take()
    }

    fn size(&self) -> u64 {
        self.file.size()
    }

    fn finish(self) -> Result<Vec<u8>> {
        self.file.finish()
    }
}
