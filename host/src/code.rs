//! Where the code of a component lies in memory.

use std::ops::Range;
use std::ptr;

use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, ObjectSymbol};
use wasmtime::Trap;
use wasmtime::component::Component;
use wasmtime_environ::CompiledTrap;

/// The instruction by which wasmtime's code traps.
const UD2: [u8; 2] = [0x0f, 0x0b];

/// Where the functions of a component were put, and where one of them traps: what is needed to
/// [stop](crate::deadline) it from outside.
///
/// wasmtime keeps compiled code as an ELF image, whose symbols tell the functions of the component from what wasmtime puts
/// between them and the host, and in which a section of its own lists all instructions that trap.
#[derive(Debug)]
pub(crate) struct Code {
    /// In the order of their addresses.
    functions: Vec<Range<usize>>,
    /// From the first to the last of them.
    all: Range<usize>,
    trap: usize,
    /// Keeps the code where it is.
    _component: Component,
}

impl Code {
    /// Whether components can be stopped on this machine.
    pub(crate) const CAN_BE_STOPPED: bool = cfg!(all(target_os = "linux", target_arch = "x86_64"));

    /// The code of a component. None where it can't be stopped so: on another machine than Linux on x86-64, or when
    /// nothing in it traps.
    pub(crate) fn of(component: &Component) -> Option<Self> {
        if !Self::CAN_BE_STOPPED {
            return None;
        }
        let image = component.image_range();
        // SAFETY: the component has its image, which never changes, and is kept below.
        let image = unsafe { std::slice::from_raw_parts(image.start, image.end.addr() - image.start.addr()) };
        let file = ElfFile64::<object::Endianness>::parse(image).ok()?;
        let section = |name| file.section_by_name(name)?.data().ok();
        let text = section(".text")?;
        let begin = text.as_ptr().addr();

        let is_unreachable = |(at, trap): &(u32, CompiledTrap)| {
            matches!(trap, CompiledTrap::Normal(Trap::UnreachableCodeReached))
                && text.get(*at as usize..).is_some_and(|code| code.starts_with(&UD2))
        };
        let mut traps = wasmtime_environ::iterate_traps(section(wasmtime_environ::obj::ELF_WASMTIME_TRAPS)?)?;
        let (trap, _) = traps.find(is_unreachable)?;

        let mut functions: Vec<_> = file
            .symbols()
            .filter(|symbol| symbol.name().is_ok_and(is_function))
            .map(|symbol| {
                begin + symbol.address() as usize..begin + (symbol.address() + symbol.size()) as usize
            })
            .collect();
        functions.sort_unstable_by_key(|function| function.start);
        let all = functions.first()?.start..functions.last()?.end;
        Some(Self { functions, all, trap: begin + trap as usize, _component: component.clone() })
    }

    /// Whether the instruction at an address is of a function of the component itself. Neither allocates nor locks.
    pub(crate) fn has(&self, address: usize) -> bool {
        let before = self.functions.partition_point(|function| function.start <= address);
        before.checked_sub(1).is_some_and(|last| self.functions[last].contains(&address))
    }

    /// Whether an address is where a function of the component goes on behind a call. Neither allocates nor locks.
    pub(crate) fn returns_to(&self, address: usize) -> bool {
        // Nearly all that a stack has is none, and is told apart at once.
        if !self.all.contains(&address) {
            return false;
        }
        let before = self.functions.partition_point(|function| function.start < address);
        let Some(function) = before.checked_sub(1).map(|last| &self.functions[last]) else { return false };
        let follows = |bytes: usize, is_call: fn(&[u8]) -> bool| {
            let begin = address.saturating_sub(bytes);
            let code: *const u8 = ptr::with_exposed_provenance(begin);
            // SAFETY: of the function, whose code is there as long as the component is.
            function.start <= begin && is_call(unsafe { std::slice::from_raw_parts(code, bytes) })
        };
        // `call` with a distance, or of an address in a register or in memory.
        let is_indirect = |code: &[u8]| code[0] == 0xff && code[1] & 0x38 == 0x10;
        address < function.end
            && (follows(5, |code| code[0] == 0xe8) || (2..=7).any(|bytes| follows(bytes, is_indirect)))
    }

    /// The address of an instruction that traps.
    pub(crate) fn trap(&self) -> usize {
        self.trap
    }
}

/// Whether a symbol is of a function of the component: `wasm[MODULE]::function[NUMBER]`, and maybe `::` and its name.
fn is_function(symbol: &str) -> bool {
    let number = |text: &str, before: &str| Some(text.strip_prefix(before)?.split_once(']')?.1.to_owned());
    let behind = number(symbol, "wasm[").and_then(|rest| number(&rest, "::function["));
    behind.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_of_functions_are_told_from_those_of_trampolines() {
        for (symbol, expected) in [
            ("wasm[0]::function[12]", true),
            ("wasm[3]::function[7]::core::fmt::write", true),
            ("wasm[0]::array_to_wasm_trampoline[12]", false),
            ("wasm[0]::function", false),
            ("component-lower-import[0]", false),
            ("wasmtime_builtin_memory_grow", false),
        ] {
            assert_eq!(is_function(symbol), expected, "{symbol}");
        }
    }
}
