//! The stage `encode-maxcompute`: logs as blocks of MaxCompute Tunnel.
//!
//! - [`config`](Config): the values of columns.
//! - [`encoder`](MaxComputeRows): writes rows.

mod config;
mod encoder;

pub use config::{Config, Protocol};
pub use encoder::MaxComputeRows;

logship_stage::export_row_encoder!(MaxComputeRows);
