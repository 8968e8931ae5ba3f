//! Rewrites a function: subtracts the charges from the counter.
//!
//! The counter is a global. A function with loops keeps it in a local variable, and writes it back before it calls or
//! returns: a loop then costs a subtraction and a branch, without an access to memory.
//!
//! ```text
//! (block $exhausted              ;; branched to if the counter is below zero
//!   (block $body (result …)      ;; in place of the function's own label
//!     …)
//!   return)
//! call $out_of_budget
//! unreachable
//! ```

use std::convert::Infallible;

use wasm_encoder::reencode::Reencode;
use wasm_encoder::{BlockType, Function, Instruction, ValType};
use wasmparser::{FunctionBody, Operator};

use crate::charges::{Charge, Charges, is_returning_call, is_tail_call, length_unit};
use crate::error::GuardError;

/// The functions and globals of a module that a guarded function uses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counter {
    /// The counter, a mutable global of type `i64`.
    pub(crate) global: u32,
    /// The function that traps.
    pub(crate) out_of_budget: u32,
}

/// The signature of a function, as far as the guard needs it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signature {
    /// The number of its parameters.
    pub(crate) parameters: u32,
    /// The type of a block with its results.
    pub(crate) results: BlockType,
}

/// Returns a function with charges.
pub(crate) fn guarded(
    encoder: &mut impl Reencode<Error = Infallible>,
    body: &FunctionBody<'_>,
    signature: Signature,
    counter: Counter,
) -> Result<Function, GuardError> {
    let charges = Charges::of(body)?;
    let mut locals = vec![];
    for group in body.get_locals_reader()? {
        let (count, ty) = group?;
        locals.push((count, encoder.val_type(ty)?));
    }
    if charges.is_free() {
        return unguarded(encoder, body, locals);
    }
    let left = signature.parameters + locals.iter().map(|(count, _)| count).sum::<u32>();
    locals.extend([(1, ValType::I64), (u32::from(charges.has_bulk), ValType::I32)]);
    let mut writer = Writer {
        function: Function::new(locals),
        counter,
        left,
        // A caught exception would restore the local variable, and with it what the callee used.
        is_local: charges.is_long && !charges.catches,
        depth: 0,
    };
    writer.begin(signature.results);
    writer.body(encoder, body, &charges.charges)?;
    writer.end();
    Ok(writer.function)
}

fn unguarded(
    encoder: &mut impl Reencode<Error = Infallible>,
    body: &FunctionBody<'_>,
    locals: Vec<(u32, ValType)>,
) -> Result<Function, GuardError> {
    let mut function = Function::new(locals);
    for operator in body.get_operators_reader()? {
        function.instruction(&encoder.instruction(operator?)?);
    }
    Ok(function)
}

/// Writes a guarded function.
struct Writer {
    function: Function,
    counter: Counter,
    /// The local variable with the counter. Behind it is one for lengths, if needed.
    left: u32,
    /// True if the local variable has the counter, false if the global has it.
    is_local: bool,
    /// The number of open blocks of the original function.
    depth: u32,
}

impl Writer {
    fn write(&mut self, instructions: &[Instruction<'_>]) {
        for instruction in instructions {
            self.function.instruction(instruction);
        }
    }

    fn begin(&mut self, results: BlockType) {
        self.write(&[Instruction::Block(BlockType::Empty), Instruction::Block(results)]);
        if self.is_local {
            self.load();
        }
    }

    /// Writes the original instructions, and the charges between them.
    fn body(
        &mut self,
        encoder: &mut impl Reencode<Error = Infallible>,
        body: &FunctionBody<'_>,
        charges: &[Charge],
    ) -> Result<(), GuardError> {
        let mut charges = charges.iter().peekable();
        let mut operators = body.get_operators_reader()?.into_iter().enumerate().peekable();
        while let Some(charge) = charges.next_if(|charge| charge.place == 0) {
            self.charge(charge);
        }
        while let Some((number, operator)) = operators.next() {
            // The last operator is the function's end.
            if operators.peek().is_none() {
                break;
            }
            self.operator(encoder, operator?)?;
            while let Some(charge) = charges.next_if(|charge| charge.place == number + 1) {
                self.charge(charge);
            }
        }
        Ok(())
    }

    fn operator(
        &mut self,
        encoder: &mut impl Reencode<Error = Infallible>,
        operator: Operator<'_>,
    ) -> Result<(), GuardError> {
        match operator {
            Operator::Block { .. }
            | Operator::Loop { .. }
            | Operator::If { .. }
            | Operator::TryTable { .. } => self.depth += 1,
            Operator::End => self.depth -= 1,
            _ => {}
        }
        if let Some(unit) = length_unit(&operator) {
            self.charge_length(unit);
        }
        let returns = is_returning_call(&operator);
        let leaves =
            is_tail_call(&operator) || matches!(operator, Operator::Throw { .. } | Operator::ThrowRef);
        if self.is_local && (returns || leaves) {
            self.store();
        }
        if self.is_local && matches!(operator, Operator::Return) {
            self.write(&[Instruction::Br(self.depth)]);
        } else {
            self.write(&[encoder.instruction(operator)?]);
        }
        if self.is_local && returns {
            self.load();
        }
        Ok(())
    }

    fn end(&mut self) {
        self.write(&[Instruction::End]);
        if self.is_local {
            self.store();
        }
        self.write(&[
            Instruction::Return,
            Instruction::End,
            Instruction::Call(self.counter.out_of_budget),
            Instruction::Unreachable,
            Instruction::End,
        ]);
    }

    fn load(&mut self) {
        self.write(&[Instruction::GlobalGet(self.counter.global), Instruction::LocalSet(self.left)]);
    }

    fn store(&mut self) {
        self.write(&[Instruction::LocalGet(self.left), Instruction::GlobalSet(self.counter.global)]);
    }

    fn charge(&mut self, charge: &Charge) {
        let instructions = i64::try_from(charge.instructions).unwrap_or(i64::MAX);
        self.subtract(&[Instruction::I64Const(instructions)], charge.is_head);
    }

    /// Charges for the length on top of the stack, an `i32`. Two to the power of `unit` count like one instruction.
    fn charge_length(&mut self, unit: i64) {
        let length = self.left + 1;
        self.write(&[Instruction::LocalTee(length)]);
        let charge = [
            Instruction::LocalGet(length),
            Instruction::I64ExtendI32U,
            Instruction::I64Const(unit),
            Instruction::I64ShrU,
        ];
        self.subtract(&charge, true);
    }

    /// Subtracts the value of `instructions` from the counter, and checks it.
    fn subtract(&mut self, instructions: &[Instruction<'_>], is_checked: bool) {
        let counter = if self.is_local {
            Instruction::LocalGet(self.left)
        } else {
            Instruction::GlobalGet(self.counter.global)
        };
        self.write(&[counter]);
        self.write(instructions);
        self.write(&[Instruction::I64Sub, Instruction::LocalSet(self.left)]);
        if !self.is_local {
            self.store();
        }
        if is_checked {
            self.write(&[
                Instruction::LocalGet(self.left),
                Instruction::I64Const(0),
                Instruction::I64LtS,
                Instruction::BrIf(self.depth + 1),
            ]);
        }
    }
}
