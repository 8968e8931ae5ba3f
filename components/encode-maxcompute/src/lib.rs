//! The stage `encode-maxcompute`: logs as a block of MaxCompute Tunnel.
//!
//! A block is Arrow record batches (protocol `maxcompute-arrow`), or a protobuf record stream (`maxcompute-stream`) for
//! tables with types that have no form in Arrow, and for servers without it. A row has all columns of the table; columns
//! without a mapping, and those whose key a log lacks, are null.
//!
//! | type | values |
//! |---|---|
//! | `string` | text of up to 8 MiB; bytes that are not UTF-8 become U+FFFD |
//! | `char`, `varchar` | as `string`, cut at the length in characters |
//! | `binary` | any bytes, up to 8 MiB |
//! | `tinyint`, `smallint`, `int`, `bigint` | digits with an optional sign, in the type's range |
//! | `float`, `double` | decimal or scientific, finite |
//! | `decimal(p,s)` | decimal or scientific, rounded half up to the scale |
//! | `boolean` | `true` and `false` in any case, `1` and `0` |
//! | `date` | `2026-12-01` |
//! | `datetime` | `2026-12-01 23:59:59`, also with `T`, a fraction (cut at milliseconds) and a zone |
//! | `timestamp` | as `datetime`, to nanoseconds, in the years 1678 to 2261 |
//! | `timestamp_ntz` | as `timestamp`; a text without a zone is the column's own clock |
//! | `json` | valid JSON |
//! | `array`, `map`, `struct`, `vector` | JSON text |
//! | `interval_day_time`, `interval_year_month` | seconds such as `-1.5`; months |
//!
//! The times of logs convert to dates and times, and to Unix seconds in other columns. Values are not trimmed. A value
//! that does not convert makes its log a dirty row, named by log and column.
//!
//! - [`config`](Config): the values of columns, and the rules of conversion.
//! - [`encoder`](MaxComputeRows): checks the table. `block`: collects the values of columns, and writes them when there
//!   are enough for a record batch.
//! - `types`: parses types. `convert`: converts values; `decimal`, `time`, `json`: those that need more than a line.
//! - `array`: the values of a column. `arrow`, `frame`: record batches and their chunks. `stream`: the record stream.

mod array;
mod arrow;
mod block;
mod config;
mod convert;
mod decimal;
mod encoder;
mod frame;
mod json;
mod stream;
mod time;
mod types;

pub use config::{Config, Protocol};
pub use encoder::MaxComputeRows;

logship_stage::export_row_encoder!(MaxComputeRows);
