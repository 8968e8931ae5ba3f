use logship_stage::columns::Columns;
use logship_stage::encode::{Description, InnerCompression};
use logship_stage::{Batch, Encoder, Loss, Losses, Result, config};

use crate::Config;
use crate::file::File;

/// The number of rows that are encoded together, column by column. Few enough to fit into the cache.
const BLOCK_ROWS: usize = 256;

/// The number of cells that are encoded together at most, unless a single row has more.
const BLOCK_CELLS: usize = 64 << 10;

/// An open Parquet file.
#[derive(Debug)]
pub struct ParquetEncoder {
    columns: Columns,
    file: File,
    losses: Losses,
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
        Ok(Self { columns, file: File::new(&config)?, losses: Losses::default() })
    }

    fn push(&mut self, batch: &Batch) -> Result<Vec<u8>> {
        let (file, losses) = (&mut self.file, &mut self.losses);
        self.columns.count_repeats(batch, losses);
        let utf8 = batch.values_are_utf8();
        let block = self.columns.len() * (BLOCK_CELLS / self.columns.len()).clamp(1, BLOCK_ROWS);
        let mut rows = Vec::with_capacity(block);
        self.columns.for_each_row(batch, |_, cells| {
            rows.extend_from_slice(cells);
            if file.count(cells) || rows.len() >= block {
                file.push(&rows, utf8, losses)?;
                rows.clear();
            }
            Ok(())
        })?;
        file.push(&rows, utf8, losses)?;
        file.take()
    }

    fn take_losses(&mut self) -> Vec<Loss> {
        self.losses.take()
    }

    fn size(&self) -> u64 {
        self.file.size()
    }

    fn finish(self) -> Result<Vec<u8>> {
        self.file.finish()
    }
}

#[cfg(test)]
mod tests;
