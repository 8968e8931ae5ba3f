//! The functions that the targets call; tests call the same.

#[path = "../../host/sls/tests/hostile/mod.rs"]
pub mod hostile;
