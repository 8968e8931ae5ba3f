//! Shared by the runtime of stages and the runtime of functions.
//!
//! # Layout
//! Each module imports only modules below it.
//!
//! | module | content |
//! |---|---|
//! | [`compiler`] | [`Compiler`](compiler::Compiler): compiles a component within limits, and only once |
//! | [`compile_process`] | compilation of untrusted components in a child process with limits of memory and time |
//! | [`complexity`] | the size of a component's functions, checked before they are compiled |
//! | [`code_cache`] | compiled code on disk, with a digest of each entry |
//! | [`private_folder`] | folders that belong to the user and that nobody else may write to |
//! | [`ticker`] | a thread that ticks while calls run, and sleeps otherwise |

pub mod code_cache;
pub mod compile_process;
pub mod compiler;
pub mod complexity;
pub mod private_folder;
pub mod ticker;
