//! The checks that the fuzz targets call. `cargo test` calls the same functions.

#[path = "../../host/sls/tests/hostile/mod.rs"]
pub mod hostile;
