//! Write a logship stage in Rust.
//!
//! A stage is a WebAssembly component that turns logs into bytes and can touch nothing else. This
//! crate has a trait for each kind of stage, a view of the batch to iterate over, and a macro that
//! makes a component of an implementation. `wit/` holds the contract; what it promises to a stage
//! and asks of it is written there once, in `stages.wit`.
//!
//! # A complete stage
//! `Cargo.toml`:
//! ```toml
//! [lib]
//! crate-type = ["cdylib", "rlib"] # the component, and the library that tests use
//!
//! [dependencies]
//! logship-stage = { path = "…/components/logship-stage" } # where your copy of logship is
//! serde = { version = "1", features = ["derive"] }
//! ```
//! `src/lib.rs`:
//! ```
//! use logship_stage::encode::Description;
//! use logship_stage::{Batch, Encoder, JsonSchema, Result, config};
//!
//! /// One line a log: its time, and its values with a tab between them.
//! pub struct Tsv { empty: String, size: u64 }
//!
//! #[derive(serde::Deserialize, JsonSchema)]
//! #[serde(deny_unknown_fields, default)]
//! #[schemars(crate = "logship_stage::schemars")]
//! struct Config {
//!     /// What stands for an empty value.
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
//! # #[cfg(any())] // a doc test is a function, and a component is a crate
//! logship_stage::export_encoder!(Tsv);
//!
//! let mut tsv = Tsv::open(r#"{"empty": "?"}"#)?;
//! let batch = logship_stage::BatchBuilder::new().log(7, &[("method", "GET"), ("user", "")]).build();
//! assert_eq!(tsv.push(&batch)?, b"7\tGET\t?\n");
//! # Ok::<(), logship_stage::Error>(())
//! ```
//! `examples/encode-logfmt` is such a project on disk: build it as its README says, and
//! `logship ship … --encoder FILE.wasm` runs it.
//!
//! # Layout
//! - [`Batch`], [`Group`], [`Log`], [`Field`]: the logs of a chunk; [`BatchBuilder`] makes some for
//!   tests.
//! - [`BatchWriter`]: for transformers, a batch made of another one.
//! - [`config`]: the stage's configuration from JSON, with its schema.
//! - [`columns`]: for table formats, which value of a log stands in which column.
//! - [`Members`] and [`escape`](mod@escape): the fields of logs one after the other, escaped.
//! - [`Origin`]: a value that a configuration names, such as a field or a tag, found in logs.
//! - [`Output`] and [`Text`]: bytes in the making, at the speed that short copies allow in wasm.
//! - [`Pieces`]: a stream cut into pieces of one size, whatever its chunks.
//! - [`Error`]: what a stage may answer.

mod batch;
pub mod bindings;
mod builder;
pub mod columns;
pub mod config;
mod error;
pub mod escape;
mod export;
mod members;
mod origin;
mod output;
mod pieces;
mod writer;

pub use batch::{Batch, Field, Group, Log, LogBatch, LogGroup, Tag};
pub use builder::BatchBuilder;
pub use error::{Error, Result};
#[doc(hidden)]
pub use export::{
    CompressorComponent, EncoderComponent, FormatterComponent, RendererComponent, TransformerComponent,
};
pub use members::Members;
pub use origin::{Origin, Place};
pub use output::{BLOCK, Output, Text, block_at};
pub use pieces::Pieces;
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

/// The types of `logship:transform`.
pub mod transform {
    pub use crate::bindings::transformer::exports::logship::transform::transformer::{
        Description, Transformed,
    };
}

/// One object being encoded: the resource `object` of `logship:encode`.
pub trait Encoder: Sized + 'static {
    /// What the encoder is.
    fn describe() -> encode::Description;

    /// Begins an object with a configuration, JSON text (empty: `{}`).
    ///
    /// # Errors
    /// [`Error::InvalidConfig`], and no other.
    fn open(config: &str) -> Result<Self>;

    /// Takes the next logs and returns the object's next bytes, none if it holds them back.
    ///
    /// # Errors
    /// [`Error::Rejected`] or [`Error::TooLarge`]; the object is lost then.
    fn push(&mut self, batch: &Batch) -> Result<Vec<u8>>;

    /// Bytes that the object would have if it were finished now, uncompressed.
    fn size(&self) -> u64;

    /// Ends the object and returns its last bytes.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    fn finish(self) -> Result<Vec<u8>>;
}

/// One object being compressed: the resource `object` of `logship:compress`.
pub trait Compressor: Sized + 'static {
    /// What the compressor is.
    fn describe() -> compress::Description;

    /// Begins an object with a configuration, JSON text (empty: `{}`).
    ///
    /// # Errors
    /// [`Error::InvalidConfig`], and no other.
    fn open(config: &str) -> Result<Self>;

    /// Takes the object's next bytes and returns compressed ones, none if it holds them back.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; the object is lost then.
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>>;

    /// Ends the object: the bytes before and behind all that [`push`](Self::push) returned.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    fn finish(self) -> Result<compress::Ending>;
}

/// Names objects: the function `render` of `logship:object-path`.
pub trait Renderer: 'static {
    /// What the renderer is.
    fn describe() -> object_path::Description;

    /// The object's key within its bucket.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`], with `prefix`, `partition-format` or a member of `config` as path.
    fn render(config: &str, request: &object_path::Request) -> Result<String>;
}

/// A run of batches that become messages for a SIEM: the resource `session` of `logship:siem`.
pub trait Formatter: Sized + 'static {
    /// What the formatter is.
    fn describe() -> siem::Description;

    /// Begins with a configuration, JSON text (empty: `{}`).
    ///
    /// # Errors
    /// [`Error::InvalidConfig`], and no other.
    fn open(config: &str) -> Result<Self>;

    /// Formats the logs of a batch.
    ///
    /// # Errors
    /// [`Error::Rejected`]; it goes on with other batches then.
    fn push(&mut self, batch: &Batch) -> Result<siem::Messages>;
}

/// A run of batches that become other batches: the resource `session` of `logship:transform`.
///
/// Here is one that leaves out the logs of a level, and the field that names it:
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
///     /// The level whose logs are left out.
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
/// # #[cfg(any())] // a doc test is a function, and a component is a crate
/// logship_stage::export_transformer!(Quiet);
///
/// let batch = logship_stage::BatchBuilder::new()
///     .log(7, &[("level", "debug"), ("text", "polled")])
///     .log(8, &[("level", "error"), ("text", "no answer")])
///     .build();
/// let Transformed { batch, logs } = Quiet::open("")?.push(batch)?;
/// assert_eq!((batch.times, batch.values), (vec![8], b"no answer".to_vec()));
/// assert_eq!(logs, [1], "the log that comes out is the second one that went in");
/// # Ok::<(), logship_stage::Error>(())
/// ```
pub trait Transformer: Sized + 'static {
    /// What the transformer is.
    fn describe() -> transform::Description;

    /// Begins with a configuration, JSON text (empty: `{}`).
    ///
    /// # Errors
    /// [`Error::InvalidConfig`], and no other.
    fn open(config: &str) -> Result<Self>;

    /// Transforms the logs of a batch: each by itself, whatever the others are.
    ///
    /// # Errors
    /// [`Error::Rejected`]; it goes on with other batches then.
    fn push(&mut self, batch: Batch) -> Result<transform::Transformed>;
}
