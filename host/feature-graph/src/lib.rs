//! Unifies the features of shared dependencies, as `cargo hakari` does.
//!
//! Cargo compiles a dependency once for each set of features. Without this crate, a build of the program alone and a build
//! of the tests ask for different features of a few small crates, and cargo compiles everything above those twice,
//! wasmtime included. `cargo xtask test` fails if the program's dependencies are not the same in both builds.
