//! The size of a component's functions, checked before they are compiled.
//!
//! A compiler's memory and time grow with the number of functions and, within a function, with the product of its
//! local variables and its branches. A small file can ask for gigabytes of both. The limits here are far above what
//! compilers of real languages produce, so that they only stop hostile and broken files.

use wasmparser::{FunctionBody, Operator, Parser, Payload};

/// Maximum number of functions in all modules of a component. CPython as a component has 20,000.
const MAX_FUNCTIONS: usize = 100_000;

/// Maximum product of local variables and branches of one function.
const MAX_STATES: u64 = 100 << 20;

/// Maximum number of core modules and nested components.
const MAX_PARTS: usize = 1000;

/// A component that is too complex to compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ComplexityError {
    /// It has too many functions.
    #[error("it has more than {MAX_FUNCTIONS} functions")]
    Functions,
    /// It has too many modules and components.
    #[error("it has more than {MAX_PARTS} modules and nested components")]
    Parts,
    /// A function has too many local variables and branches.
    #[error("one function has {locals} local variables and {branches} branches, too many to compile")]
    Function {
        /// The number of local variables.
        locals: u64,
        /// The number of branches and labels.
        branches: u64,
    },
    /// It is not a valid component.
    #[error("{0}")]
    Invalid(String),
}

/// Checks the size of a component's functions.
///
/// # Errors
/// If the component is too complex, or damaged.
pub fn check(component: &[u8]) -> Result<(), ComplexityError> {
    let invalid = |error: wasmparser::BinaryReaderError| ComplexityError::Invalid(error.to_string());
    let (mut functions, mut parts) = (0, 0);
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(invalid)? {
            Payload::Version { .. } => parts += 1,
            Payload::CodeSectionStart { count, .. } => functions += count as usize,
            Payload::CodeSectionEntry(body) => check_function(&body)?,
            _ => {}
        }
        if functions > MAX_FUNCTIONS {
            return Err(ComplexityError::Functions);
        }
        if parts > MAX_PARTS {
            return Err(ComplexityError::Parts);
        }
    }
    Ok(())
}

fn check_function(body: &FunctionBody<'_>) -> Result<(), ComplexityError> {
    let invalid = |error: wasmparser::BinaryReaderError| ComplexityError::Invalid(error.to_string());
    let mut locals = 0;
    for group in body.get_locals_reader().map_err(invalid)? {
        locals += u64::from(group.map_err(invalid)?.0);
    }
    let mut branches = 0;
    // Most functions are too short to reach the limit.
    let range = body.range();
    if locals * (range.end - range.start) > MAX_STATES {
        for operator in body.get_operators_reader().map_err(invalid)? {
            branches += match operator.map_err(invalid)? {
                Operator::BrTable { targets } => u64::from(targets.len()) + 1,
                Operator::Block { .. }
                | Operator::Loop { .. }
                | Operator::If { .. }
                | Operator::Else
                | Operator::Br { .. }
                | Operator::BrIf { .. } => 1,
                _ => 0,
            };
        }
    }
    if locals * branches > MAX_STATES {
        return Err(ComplexityError::Function { locals, branches });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(functions: &str) -> Vec<u8> {
        wat::parse_str(format!("(component (core module {functions}))")).unwrap()
    }

    #[test]
    fn accepts_ordinary_functions() {
        let function = format!("(func (local i64 i32) {})", "(block (br 0))".repeat(10_000));
        check(&component(&function.repeat(10))).unwrap();
        check(&component(&"(func)".repeat(1000))).unwrap();
    }

    #[test]
    fn rejects_hostile_components() {
        let many_locals = " i32".repeat(40_000);
        for (component, expected) in [
            (component(&"(func)".repeat(MAX_FUNCTIONS + 1)), "more than 100000 functions"),
            (
                component(&format!(
                    "(func (local{many_locals}) {})",
                    "(loop (br_if 0 (i32.const 0)))".repeat(3000)
                )),
                "40000 local variables and 6000 branches",
            ),
            (
                component(&format!(
                    "(func (local{many_locals}) (br_table{} (i32.const 0)))",
                    " 0".repeat(9000)
                )),
                "40000 local variables and 9000 branches",
            ),
            (
                wat::parse_str(format!("(component {})", "(core module)".repeat(1001))).unwrap(),
                "more than 1000 modules",
            ),
            (component("(func)")[..20].to_vec(), "unexpected end"),
        ] {
            let error = check(&component).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
