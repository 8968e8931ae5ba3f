//! Sinks: where bytes go. Objects go to a directory, S3 or OSS; events go to Splunk HEC or syslog, rows
//! to MaxCompute and Table Store.
//!
//! ```
//! # let folder = tempfile::tempdir()?;
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! use logship_config::destination::DestinationConfig;
//! use logship_sink::object::BucketLocation;
//! use logship_sink::open;
//!
//! let config = DestinationConfig::Directory { path: folder.path().to_owned() };
//! let spool = std::env::temp_dir();
//! let location =
//!     BucketLocation { bucket: "lake", role: "", spool: &spool, runtime: runtime.handle().clone(), must_exist: false };
//! let sink = open::object_sink(&config, &location)?;
//! let mut staged = sink.begin("a/b.json", 0)?;
//! staged.write(b"{}\n")?;
//! sink.publish(staged.finish(b"")?, "a/b.json", "application/json", &vec![])?;
//! assert_eq!(sink.find("a/b.json")?.unwrap().bytes, 3);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Layout
//! - [`sink`]: the trait of all sinks. [`object`]: sinks that store objects. [`event`]: sinks that take events.
//! - [`open`]: opens a sink from its settings. Only this module knows all kinds.
//! - [`error`]: the errors of all sinks.
//! - One folder per sink: [`directory`], [`s3`], [`oss`], [`hec`], [`syslog`], [`maxcompute`], [`table_store`]. Each has the
//!   same four files:
//!   - `config.rs` checks the settings of `logship-config` and opens the sink,
//!   - `client.rs` has connections, requests and TLS,
//!   - `error.rs` maps the peer's errors and decides on retries,
//!   - `sink.rs` implements the traits.
//! - Shared parts of object sinks: [`bucket`] (S3 and OSS), its `store_transport` and `store_hint`, [`staged_file`] (an
//!   object on local disk before it is published), [`unknown_store`].
//! - `aliyun_keys`: credentials of OSS and MaxCompute. `xml`: texts of XML answers.
//! - Shared parts of event sinks: [`health`], [`backoff`], [`gate`] (batches that have not started), `tcp`.
//! - [`http`]: HTTP clients of stores and functions. `tls`: the TLS library. [`reload`]: follows changes of certificates.
//!
//! # A new sink
//! Add a struct to `logship-config`, a folder here, an arm to [`open`], and a file to `tests/conformance` that runs the
//! suite of its content against it.

mod aliyun_keys;
pub mod backoff;
pub mod bucket;
pub mod directory;
pub mod error;
pub mod event;
pub mod gate;
pub mod health;
pub mod hec;
pub mod http;
pub mod maxcompute;
pub mod object;
pub mod open;
pub mod oss;
pub mod reload;
pub mod s3;
pub mod sink;
pub mod staged_file;
mod store_hint;
mod store_transport;
pub mod syslog;
pub mod table_store;
mod tcp;
mod tls;
pub mod unknown_store;
mod xml;
