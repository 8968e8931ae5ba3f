//! Executors: where the stages of a task run.
//!
//! - `function`: a function that runs the stages elsewhere. `call`: its calls and answers. `spec`: the objects that it
//!   makes. `client`: its requests. `error`: failed calls.
//! - `fleet`: the state that the functions of a destination share. `stalls`: answers that stall.

mod call;
mod client;
mod error;
mod fleet;
mod function;
mod spec;
mod stalls;

pub(crate) use self::call::{Answer, Call};
pub use self::error::CallError;
pub(crate) use self::fleet::Fleet;
pub use self::function::Function;
pub(crate) use self::spec::spec;

/// The program that runs the stages of a rule.
#[derive(Debug)]
pub enum Executor {
    /// This process.
    InProcess,
    /// A function, which may also deliver the objects.
    Function(Box<Function>),
}
