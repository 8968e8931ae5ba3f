//! The reasons why a component can't be guarded.

use wasm_encoder::reencode;

/// A component that can't be guarded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// It is not a valid component, or uses a proposal that the guard doesn't know.
    #[error("it can't be guarded: {0}")]
    Invalid(String),
    /// A memory is larger than the maximum from the start.
    #[error("it starts with {start} MiB of memory and may have {maximum}: raise the maximum")]
    Memory {
        /// Its memory at the start, in MiB.
        start: u128,
        /// The maximum, in MiB.
        maximum: u128,
    },
    /// A table is larger than the maximum from the start.
    #[error("it can't be guarded: it has a table of {start} elements, and tables may have {maximum}")]
    Table {
        /// The elements at the start.
        start: u64,
        /// The maximum.
        maximum: u64,
    },
    /// Each memory has a maximum of its own, and each table too. So their number is limited.
    #[error("it can't be guarded: it has {found} {kind}, and may have {maximum}")]
    TooMany {
        /// The kind of items, as a plural.
        kind: &'static str,
        /// Their number, counting each instance of a module or component.
        found: u64,
        /// The maximum.
        maximum: u64,
    },
    /// The budget of a component is renewed by each call of another one.
    #[error(
        "it can't be guarded, because code of its components calls other components: each call would renew the \
         called one's budget. Build it as one component, or compose it of stages with `logship compose`"
    )]
    CallsComponents,
    /// It connects its modules in a way that compilers don't.
    #[error("it can't be guarded, because it {0}. Compilers and `wac` make no such components")]
    Shape(&'static str),
    /// The rewritten component is invalid.
    #[error(
        "the guarded component is invalid: {0}. This is a bug of logship: use the component without a guard"
    )]
    Rewritten(String),
}

impl From<wasmparser::BinaryReaderError> for GuardError {
    fn from(error: wasmparser::BinaryReaderError) -> Self {
        Self::Invalid(error.to_string())
    }
}

impl<E: std::fmt::Display> From<reencode::Error<E>> for GuardError {
    fn from(error: reencode::Error<E>) -> Self {
        Self::Invalid(error.to_string())
    }
}
