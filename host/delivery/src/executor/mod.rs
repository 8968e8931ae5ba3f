//! Executors: where the stages of a task run.
//!
//! - `function`: the client of a function that runs the stages elsewhere. `call`: its calls and answers. `spec`: the objects that it makes. `error`: failed calls.

mod call;
mod error;
mod function;
mod spec;

pub(crate) use self::call::{Answer, Call};
pub use self::error::CallError;
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
