//! One conformance suite for each content, run against every sink.
//!
//! - `object_suite`: what each sink of objects promises. `directory`, `s3` and `oss` run it against a folder, s3s-fs
//!   and a small OSS server.
//! - `event_suite`: what each sink of events promises. `hec` and `syslog` run it against small receivers.
//! - `store_answers`: answers of S3 and OSS that become errors, and the checksums that they get.
//! - `server`: the HTTP server of `s3`, `oss` and `hec`.
//!
//! A new sink implements `Store` or `Receiver` and names itself in a macro: `object_sink_tests!` or `event_sink_tests!`.

mod directory;
mod event_suite;
mod hec;
mod object_suite;
mod oss;
mod s3;
mod server;
mod store_answers;
mod syslog;
mod syslog_udp;
