//! The stage `encode-parquet`: logs as the rows of a Parquet file.
mod chunk;
mod column;
mod config;
mod convert;
mod dictionary;
mod encoder;
mod file;
mod hybrid;
mod statistics;

pub use config::{ColumnConfig, Compression, Config, Kind};
pub use encoder::ParquetEncoder;

logship_stage::export_encoder!(ParquetEncoder);
