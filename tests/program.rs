//! Tests of the program and of its crates together.
//!
//! They are one test binary, since each binary links wasmtime. Tests that measure a process or kill it are binaries of
//! their own, which run one after the other.

mod application;
mod components;
mod compose;
mod service;
mod shipping;
mod snappy_tool;
mod stage_check;
mod support;
