//! Write a logship stage in Rust.
//!
//! A stage is a WebAssembly component that turns logs into bytes and has access to nothing else. This
//! crate has a trait for each kind of stage, an iterable view of the batch, and macros that export
//! an implementation as a component. `wit/` is the contract; `stages.wit` documents the guarantees
//! and the requirements of stages.
//!
//! # A complete stage
//! `Cargo.toml`:
//! ```toml
//! [lib]
//! crate-type = ["cdylib", "rlib"] # the component, and the library for tests
//!
//! [dependencies]
//! logship-stage = { path = "…/components/logship-stage" } # in your checkout of logship
//! serde = { version = "1", features = ["derive"] }
//! ```
//! `src/lib.rs`:
//! ```
//! use logship_stage::encode::Description;
//! use logship_stage::{Batch, Encoder, JsonSchema, Result, config};
//!
//! /// One line per log: its time and its values, separated by tabs.
//! pub struct Tsv { empty: String, size: u64 }
//!
//! #[derive(serde::Deserialize, JsonSchema)]
//! #[serde(deny_unknown_fields, default)]
//! #[schemars(crate = "logship_stage::schemars")]
//! struct Config {
//!     /// Replacement of an empty value.
//!     empty: String,
//! }
//!
//! impl Default for Config {
//!     fn default() -> Self {
//!         Self { empty: "-".into() }
//!     }
//! }
//!
//! impl Encoder for Tsv {
//!     fn describe() -> Description {
//!         Description {
//!             name: env!("CARGO_PKG_NAME").into(),
//!             version: env!("CARGO_PKG_VERSION").into(),
//!             format: "tsv".into(),
//!             suffix: ".tsv".into(),
//!             media_type: "text/tab-separated-values".into(),
//!             config_schema: config::schema::<Config>(),
//!             compressions: vec![],
//!         }
//!     }
//!
//!     fn open(text: &str) -> Result<Self> {
//!         Ok(Self { empty: config::parse::<Config>(text)?.empty, size: 0 })
//!     }
//!
//!     fn push(&mut self, batch: &Batch) -> Result<Vec<u8>> {
//!         let mut out = Vec::with_capacity(batch.raw().values.len() * 2);
//!         for log in batch.groups().flat_map(|group| group.logs()) {
//!             out.extend_from_slice(log.time().to_string().as_bytes());
//!             for field in log.fields() {
//!                 out.push(b'\t');
//!                 match field.value() {
//!                     b"" => out.extend_from_slice(self.empty.as_bytes()),
//!                     value => out.extend(value.iter().filter(|byte| !b"\t\r\n".contains(byte))),
//!                 }
//!             }
//!             out.push(b'\n');
//!         }
//!         self.size += out.len() as u64;
//!         Ok(out)
//!     }
//!
//!     fn size(&self) -> u64 {
//!         self.size
//!     }
//!
//!     fn finish(self) -> Result<Vec<u8>> {
//!         Ok(vec![])
//!     }
//! }
//!
//! # #[cfg(any())] // a doc test is a function, but a component must be a crate
//! logship_stage::export_encoder!(Tsv);
//!
//! let mut tsv = Tsv::open(r#"{"empty": "?"}"#)?;
//! let batch = logship_stage::BatchBuilder::new().log(7, &[("method", "GET"), ("user", "")]).build();
//! assert_eq!(tsv.push(&batch)?, b"7\tGET\t?\n");
//! # Ok::<(), logship_stage::Error>(())
//! ```
//! `examples/encode-logfmt` is a complete project of this kind. Its README says how to build it;
//! `logship ship … --encoder FILE.wasm` runs it.
//!
//! # Layout
//! - [`Batch`], [`Group`], [`Log`], [`Field`]: the logs of a chunk; [`BatchBuilder`] builds batches for
//!   tests.
//! - [`BatchWriter`]: derives a batch from another one, for transformers.
//! - [`config`]: parses the stage's configuration from JSON and generates its schema.
//! - [`columns`]: maps the values of a log to columns, for table formats.
//! - [`mapping`]: maps the values of a log to the columns of an existing table, for row encoders.
//! - [`Fields`] and [`escape`](mod@escape): writes the fields of logs, escaped.
//! - [`Origin`]: the source of a value, such as a field or a tag, that a configuration names.
//! - [`Output`] and [`Text`]: an output buffer with fast short copies in wasm.
//! - [`Losses`]: counts values that a format cannot hold. [`Repeats`]: finds keys that a log repeats.
//! - [`field_key`]: keeps fields apart from the reserved names. A [`Batch`] has renamed them already.
//! - [`Pieces`]: cuts a stream into pieces of one size, independent of its chunks.
//! - [`Error`]: the errors of a stage.

mod batch;
pub mod bindings;
mod builder;
pub mod columns;
pub mod config;
mod error;
pub mod escape;
mod export;
mod fields;
mod losses;
pub mod mapping;
mod origin;
mod output;
mod pieces;
mod repeats;
mod reserved;
mod writer;

pub use batch::{Batch, Field, Group, Log, LogBatch, LogGroup, Tag, distinct_tags};
pub use builder::BatchBuilder;
pub use error::{Error, Result};
#[doc(hidden)]
pub use export::{
    CompressorComponent, EncoderComponent, FormatterComponent, LossesComponent, RendererComponent,
    RowEncoderComponent, TransformerComponent,
};
pub use fields::Fields;
pub use losses::{Loss, Losses};
pub use origin::{Origin, Place};
pub use output::{BLOCK, Output, Text, block_at};
pub use pieces::Pieces;
pub use repeats::Repeats;
pub use reserved::{FIELD_PREFIX, field_key, is_reserved};
pub use schemars::{self, JsonSchema};
pub use writer::BatchWriter;

/// The types of `logship:encode`.
pub mod encode {
    pub use crate::bindings::encoder::exports::logship::encode::encoder::{Description, InnerCompression};
}

/// The types of `logship:compress`.
pub mod compress {
    pub use crate::bindings::compressor::exports::logship::compress::compressor::{
        Description, Ending, SuffixPlace,
    };
}

/// The types of `logship:object-path`.
pub mod object_path {
    pub use crate::bindings::renderer::exports::logship::object_path::renderer::{Description, Request};
}

/// The types of `logship:siem`.
pub mod siem {
    pub use crate::bindings::formatter::exports::logship::siem::formatter::{
        Description, Messages, Transport,
    };
}

/// The types of `logship:rows`.
pub mod rows {
    pub use crate::bindings::row_encoder::exports::logship::rows::row_encoder::{
        Column, Description, DirtyValue, Positions, Rows, Table,
    };
}

/// The types of `logship:transform`.
pub mod transform {
    pub use crate::bindings::transformer::exports::logship::transform::transformer::{
        Description, Transformed,
    };
}

/// One object being encoded: the resource `object` of `logship:encode`.
pub trait Encoder: Sized + 'static {
    /// Describes the encoder.
    fn describe() -> encode::Description;

    /// Starts an object. `config` is JSON text (empty: `{}`).
    ///
    /// # Errors
    /// Only [`Error::InvalidConfig`].
    fn open(config: &str) -> Result<Self>;

    /// Encodes the next logs. Returns the object's next bytes, or none if the encoder buffers them.
    ///
    /// # Errors
    /// [`Error::Rejected`] or [`Error::TooLarge`]. The object is unusable afterwards.
    fn push(&mut self, batch: &Batch) -> Result<Vec<u8>>;

    /// Returns the values that were lost since the last call: those of pushed logs that the object cannot hold. Only an
    /// encoder that is exported with [`export_reporting_encoder`] needs it.
    fn take_losses(&mut self) -> Vec<Loss> {
        vec![]
    }

    /// Returns the object's uncompressed size in bytes if it were finished now.
    fn size(&self) -> u64;

    /// Finishes the object and returns its last bytes.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    fn finish(self) -> Result<Vec<u8>>;
}

/// One object being compressed: the resource `object` of `logship:compress`.
pub trait Compressor: Sized + 'static {
    /// Describes the compressor.
    fn describe() -> compress::Description;

    /// Starts an object. `config` is JSON text (empty: `{}`).
    ///
    /// # Errors
    /// Only [`Error::InvalidConfig`].
    fn open(config: &str) -> Result<Self>;

    /// Compresses the object's next bytes. Returns compressed bytes, or none if the compressor buffers them.
    ///
    /// # Errors
    /// [`Error::TooLarge`]. The object is unusable afterwards.
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>>;

    /// Finishes the object. Returns the bytes before and after all bytes that [`push`](Self::push) returned.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    fn finish(self) -> Result<compress::Ending>;
}

/// Names objects: the function `render` of `logship:object-path`.
pub trait Renderer: 'static {
    /// Describes the renderer.
    fn describe() -> object_path::Description;

    /// Returns the object's key in its bucket.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`]. The path is `prefix`, `partition-format` or a key of `config`.
    fn render(config: &str, request: &object_path::Request) -> Result<String>;
}

/// Formats a sequence of batches as messages for a SIEM: the resource `session` of `logship:siem`.
pub trait Formatter: Sized + 'static {
    /// Describes the formatter.
    fn describe() -> siem::Description;

    /// Starts a session. `config` is JSON text (empty: `{}`).
    ///
    /// # Errors
    /// Only [`Error::InvalidConfig`].
    fn open(config: &str) -> Result<Self>;

    /// Formats the logs of a batch.
    ///
    /// # Errors
    /// [`Error::Rejected`]. The session continues with other batches.
    fn push(&mut self, batch: &Batch) -> Result<siem::Messages>;
}

/// One block of rows being encoded: the resource `session` of `logship:rows`.
pub trait RowEncoder: Sized + 'static {
    /// Describes the row encoder.
    fn describe() -> rows::Description;

    /// Opens a block of rows of a table. `config` is JSON text (empty: `{}`).
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] or [`Error::InvalidTable`].
    fn open(config: &str, table: &rows::Table) -> Result<Self>;

    /// Encodes the next logs. The lists of `positions` have one element per log. Each log has a row, or a value in
    /// [`dirty`](rows::Rows::dirty) that explains why not.
    ///
    /// # Errors
    /// [`Error::InvalidBatch`]. The block is unusable afterwards.
    fn push(&mut self, batch: &Batch, positions: &rows::Positions) -> Result<rows::Rows>;

    /// Finishes the block and returns its last bytes.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    fn finish(self) -> Result<Vec<u8>>;
}

/// Transforms a sequence of batches into other batches: the resource `session` of `logship:transform`.
///
/// This example filters the logs of one level and removes the field with the level:
/// ```
/// use logship_stage::transform::{Description, Transformed};
/// use logship_stage::{Batch, BatchWriter, JsonSchema, Result, Transformer, config};
///
/// pub struct Quiet { level: String }
///
/// #[derive(serde::Deserialize, JsonSchema)]
/// #[serde(deny_unknown_fields)]
/// #[schemars(crate = "logship_stage::schemars")]
/// struct Config {
///     /// The level of the filtered logs.
///     #[serde(default = "debug")]
///     level: String,
/// }
///
/// fn debug() -> String {
///     "debug".into()
/// }
///
/// impl Transformer for Quiet {
///     fn describe() -> Description {
///         Description {
///             name: env!("CARGO_PKG_NAME").into(),
///             version: env!("CARGO_PKG_VERSION").into(),
///             config_schema: config::schema::<Config>(),
///         }
///     }
///
///     fn open(text: &str) -> Result<Self> {
///         Ok(Self { level: config::parse::<Config>(text)?.level })
///     }
///
///     fn push(&mut self, batch: Batch) -> Result<Transformed> {
///         let mut writer = BatchWriter::of(&batch);
///         for log in batch.groups().flat_map(|group| group.logs()) {
///             let is_level = |key: &str| key == "level";
///             let level = log.fields().find(|field| is_level(field.key()));
///             if level.is_some_and(|level| level.value() == self.level.as_bytes()) {
///                 continue;
///             }
///             for field in log.fields().filter(|field| !is_level(field.key())) {
///                 writer.copy_field(&field);
///             }
///             writer.end_log(&log);
///         }
///         Ok(writer.finish())
///     }
/// }
///
/// # #[cfg(any())] // a doc test is a function, but a component must be a crate
/// logship_stage::export_transformer!(Quiet);
///
/// let batch = logship_stage::BatchBuilder::new()
///     .log(7, &[("level", "debug"), ("text", "polled")])
///     .log(8, &[("level", "error"), ("text", "no answer")])
///     .build();
/// let Transformed { batch, logs } = Quiet::open("")?.push(batch)?;
/// assert_eq!((batch.times, batch.values), (vec![8], b"no answer".to_vec()));
/// assert_eq!(logs, [1], "the output has the second input log");
/// # Ok::<(), logship_stage::Error>(())
/// ```
pub trait Transformer: Sized + 'static {
    /// Describes the transformer.
    fn describe() -> transform::Description;

    /// Starts a session. `config` is JSON text (empty: `{}`).
    ///
    /// # Errors
    /// Only [`Error::InvalidConfig`].
    fn open(config: &str) -> Result<Self>;

    /// Transforms the logs of a batch. The result for a log must not depend on other logs.
    ///
    /// # Errors
    /// [`Error::Rejected`]. The session continues with other batches.
    fn push(&mut self, batch: Batch) -> Result<transform::Transformed>;
}
