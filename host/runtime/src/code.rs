//! Addresses of a component's code in memory.

use std::ops::Range;
use std::ptr;

use object::read::elf::ElfFile64;
use object::{Object, ObjectSection, ObjectSymbol};
use wasmtime::Trap;
use wasmtime::component::Component;
use wasmtime_environ::CompiledTrap;

/// The trapping instruction in wasmtime's code.
const UD2: [u8; 2] = [0x0f, 0x0b];

/// Address ranges of a component's functions, and the address of a trap in them. [Deadlines by
/// signal](crate::deadline) need both.
///
/// wasmtime keeps compiled code as an ELF image. Its symbols distinguish the component's functions from
/// wasmtime's trampolines. One of its sections lists all trapping instructions.
#[derive(Debug)]
pub(crate) struct Code {
    /// Sorted by address.
    functions: Vec<Range<usize>>,
    /// The range from the first to the last function.
    all: Range<usize>,
    trap: usize,
    /// Keeps the code in memory.
    _component: Component,
}

impl Code {
    /// True if this machine supports deadlines by signal.
    pub(crate) const SUPPORTS_SIGNALS: bool = cfg!(all(target_os = "linux", target_arch = "x86_64"));

    /// Returns the code of a component. `None` if signals can't stop it: on a machine other than Linux on
    /// x86-64, or if no instruction traps.
    pub(crate) fn of(component: &Component) -> Option<Self> {
        if !Self::SUPPORTS_SIGNALS {
            return None;
        }
        let image = component.image_range();
        // SAFETY: the image is immutable and owned by the component, which is kept below.
        let image = unsafe { std::slice::from_raw_parts(image.start, image.end.addr() - image.start.addr()) };
        let file = ElfFile64::<object::Endianness>::parse(image).ok()?;
        let section = |name| file.section_by_name(name)?.data().ok();
        let text = section(".text")?;
        let base = text.as_ptr().addr();

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
                base + symbol.address() as usize..base + (symbol.address() + symbol.size()) as usize
            })
            .collect();
        functions.sort_unstable_by_key(|function| function.start);
        let all = functions.first()?.start..functions.last()?.end;
        Some(Self { functions, all, trap: base + trap as usize, _component: component.clone() })
    }

    /// True if the address is in a function of the component. Neither allocates nor locks.
    pub(crate) fn contains(&self, address: usize) -> bool {
        let before = self.functions.partition_point(|function| function.start <= address);
        before.checked_sub(1).is_some_and(|last| self.functions[last].contains(&address))
    }

    /// True if the address is a return address in a function of the component. Neither allocates nor locks.
    pub(crate) fn returns_to(&self, address: usize) -> bool {
        // Fast path: nearly all words of a stack lie outside the code.
        if !self.all.contains(&address) {
            return false;
        }
        let before = self.functions.partition_point(|function| function.start < address);
        let Some(function) = before.checked_sub(1).map(|last| &self.functions[last]) else { return false };
        let follows = |bytes: usize, is_call: fn(&[u8]) -> bool| {
            let begin = address.saturating_sub(bytes);
            let code: *const u8 = ptr::with_exposed_provenance(begin);
            // SAFETY: within the function, whose code is loaded as long as the component exists.
            function.start <= begin && is_call(unsafe { std::slice::from_raw_parts(code, bytes) })
        };
        // `call` with a relative address, or with an address in a register or in memory.
        let is_indirect = |code: &[u8]| code[0] == 0xff && code[1] & 0x38 == 0x10;
        address < function.end
            && (follows(5, |code| code[0] == 0xe8) || (2..=7).any(|bytes| follows(bytes, is_indirect)))
    }

    /// Returns the address of a trapping instruction.
    pub(crate) fn trap(&self) -> usize {
        self.trap
    }
}

/// True if a symbol names a function of the component: `wasm[MODULE]::function[NUMBER]`, optionally followed
/// by `::` and a name.
fn is_function(symbol: &str) -> bool {
    let number = |text: &str, before: &str| Some(text.strip_prefix(before)?.split_once(']')?.1.to_owned());
    let suffix = number(symbol, "wasm[").and_then(|rest| number(&rest, "::function["));
    suffix.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_functions_from_trampolines() {
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
