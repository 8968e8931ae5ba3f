//! The charges of a function, and their places.
//!
//! A function pays for its instructions when it is entered, and for those of a loop at each iteration. The instructions
//! of a short function or loop are charged together, including branches that are not taken. In a long one, such as the
//! loop of an interpreter, each part that a branch may skip has a charge of its own.

use wasmparser::{FunctionBody, Operator};

use crate::error::GuardError;

/// The most instructions that are charged together, whether branches skip them or not.
const SHORT: u64 = 64;

/// The charge of a call, in addition to the called function's own. A function without loops and calls has none.
const CALL: u64 = 10;

/// The charge of an instruction that may ask the host for memory.
const GROW: u64 = 1000;

/// The charge of an exception.
const THROW: u64 = 200;

/// The bytes that count like one instruction when they are copied or filled, as a power of two.
const BYTES_PER_INSTRUCTION: i64 = 3;

/// A charge, and its place: behind the operator with this number. The first operator has number 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Charge {
    pub(crate) place: usize,
    pub(crate) instructions: u64,
    /// True at the start of the function or of a loop. Only these check the counter.
    pub(crate) is_head: bool,
}

/// The charges of a function.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Charges {
    /// In the order of their places. The first one is that of the function.
    pub(crate) charges: Vec<Charge>,
    /// True if the function has more than one charge.
    pub(crate) is_long: bool,
    /// True if it calls functions.
    pub(crate) has_calls: bool,
    /// True if it has instructions whose time depends on a length.
    pub(crate) has_bulk: bool,
    /// True if it catches exceptions.
    pub(crate) catches: bool,
}

/// A function or a loop, without the loops inside.
struct Region {
    /// The charges of its parts.
    parts: Vec<Charge>,
}

impl Region {
    fn new(place: usize) -> Self {
        Self { parts: vec![Charge { place, instructions: 0, is_head: true }] }
    }

    fn begin_part(&mut self, place: usize) {
        self.parts.push(Charge { place, instructions: 0, is_head: false });
    }

    fn add(&mut self, instructions: u64) {
        if let Some(part) = self.parts.last_mut() {
            part.instructions += instructions;
        }
    }

    /// Returns its charges: one if it is short.
    fn finish(mut self) -> Vec<Charge> {
        let total = self.parts.iter().map(|part| part.instructions).sum();
        if total <= SHORT {
            self.parts.truncate(1);
            self.parts[0].instructions = total;
        }
        self.parts.retain(|part| part.is_head || part.instructions > 0);
        self.parts
    }
}

impl Charges {
    /// Returns the charges of a function.
    pub(crate) fn of(body: &FunctionBody<'_>) -> Result<Self, GuardError> {
        let mut charges = Self::default();
        let mut regions = vec![Region::new(0)];
        // The open blocks. True for a loop.
        let mut blocks = vec![];
        for (number, operator) in body.get_operators_reader()?.into_iter().enumerate() {
            let (operator, place) = (operator?, number + 1);
            let Some(region) = regions.last_mut() else { break };
            region.add(charges.weigh(&operator));
            match operator {
                Operator::Loop { .. } => {
                    blocks.push(true);
                    regions.push(Region::new(place));
                }
                Operator::Block { .. } | Operator::TryTable { .. } => blocks.push(false),
                Operator::If { .. } => {
                    blocks.push(false);
                    region.begin_part(place);
                }
                Operator::Else => region.begin_part(place),
                Operator::End if blocks.pop() == Some(true) => {
                    charges.charges.extend(regions.pop().into_iter().flat_map(Region::finish));
                }
                // A branch to the end of a block may skip what is before it.
                Operator::End => region.begin_part(place),
                _ => {}
            }
        }
        charges.charges.extend(regions.pop().into_iter().flat_map(Region::finish));
        charges.charges.sort_by_key(|charge| charge.place);
        charges.is_long = charges.charges.len() > 1;
        Ok(charges)
    }

    /// Returns true if the function needs no charge: its caller's charge for the call is enough.
    pub(crate) fn is_free(&self) -> bool {
        let is_short = self.charges.iter().all(|charge| charge.instructions <= SHORT);
        is_short && !self.is_long && !self.has_calls && !self.has_bulk && !self.catches
    }

    /// Returns the charge of an operator, and notes what kind it is.
    fn weigh(&mut self, operator: &Operator<'_>) -> u64 {
        if is_call(operator) {
            self.has_calls = true;
            return CALL;
        }
        match operator {
            Operator::MemoryGrow { .. } | Operator::TableGrow { .. } => {
                // Its caller's charge for the call would be too small.
                self.has_calls = true;
                self.has_bulk |= length_unit(operator).is_some();
                GROW
            }
            Operator::Throw { .. } | Operator::ThrowRef => {
                self.has_calls = true;
                THROW
            }
            Operator::TryTable { .. } => {
                self.catches = true;
                1
            }
            operator if length_unit(operator).is_some() => {
                self.has_bulk = true;
                CALL
            }
            _ => 1,
        }
    }
}

/// Returns true if the operator calls a function and returns.
pub(crate) fn is_returning_call(operator: &Operator<'_>) -> bool {
    matches!(operator, Operator::Call { .. } | Operator::CallIndirect { .. } | Operator::CallRef { .. })
}

/// Returns true if the operator calls a function instead of returning.
pub(crate) fn is_tail_call(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::ReturnCall { .. } | Operator::ReturnCallIndirect { .. } | Operator::ReturnCallRef { .. }
    )
}

fn is_call(operator: &Operator<'_>) -> bool {
    is_returning_call(operator) || is_tail_call(operator)
}

/// Returns the part of the length on top of the stack that counts like one instruction, as a power of two, if the
/// operator's time depends on the length: some bytes of a memory, or one element of a table.
pub(crate) fn length_unit(operator: &Operator<'_>) -> Option<i64> {
    match operator {
        Operator::MemoryCopy { .. } | Operator::MemoryFill { .. } | Operator::MemoryInit { .. } => {
            Some(BYTES_PER_INSTRUCTION)
        }
        Operator::TableCopy { .. }
        | Operator::TableFill { .. }
        | Operator::TableInit { .. }
        | Operator::TableGrow { .. } => Some(0),
        _ => None,
    }
}
