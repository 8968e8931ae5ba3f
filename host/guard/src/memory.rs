//! The maximum of memories and tables.

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{MemorySection, TableSection};
use wasmparser::{AbstractHeapType, HeapType, MemorySectionReader, RefType, TableInit, TableSectionReader};

use crate::error::GuardError;

/// The size of a page, as a power of two, unless the memory has another one.
const PAGE: u32 = 16;

/// The maximum of a table, in elements. An element takes 8 bytes or more, outside the memories. The largest runtimes of
/// languages have some 30,000.
const MAX_TABLE: u64 = 1 << 18;

/// Writes a maximum into the memories that a module defines. Imported memories have that of their definition.
pub(crate) fn limit_memories(
    section: MemorySectionReader<'_>,
    bytes: u64,
) -> Result<MemorySection, GuardError> {
    let mut limited = MemorySection::new();
    for memory in section {
        let mut memory = RoundtripReencoder.memory_type(memory?)?;
        let page = memory.page_size_log2.unwrap_or(PAGE);
        let pages = (bytes >> page).max(1);
        if memory.minimum > pages {
            let mib = |pages: u64| (u128::from(pages) << page).div_ceil(1 << 20);
            return Err(GuardError::Memory { start: mib(memory.minimum), maximum: mib(pages) });
        }
        memory.maximum = Some(memory.maximum.map_or(pages, |known| known.min(pages)));
        limited.memory(memory);
    }
    Ok(limited)
}

/// Writes a maximum into the tables that a module defines.
pub(crate) fn limit_tables(
    encoder: &mut impl Reencode<Error = std::convert::Infallible>,
    section: TableSectionReader<'_>,
) -> Result<TableSection, GuardError> {
    let mut limited = TableSection::new();
    for table in section {
        let table = table?;
        let mut ty = encoder.table_type(table.ty)?;
        if ty.minimum > MAX_TABLE {
            return Err(GuardError::Table { start: ty.minimum, maximum: MAX_TABLE });
        }
        if is_exception(table.ty.element_type) {
            return Err(GuardError::Shape("keeps exceptions in tables"));
        }
        ty.maximum = Some(ty.maximum.map_or(MAX_TABLE, |known| known.min(MAX_TABLE)));
        match table.init {
            TableInit::RefNull => limited.table(ty),
            TableInit::Expr(init) => limited.table_with_init(ty, &encoder.const_expr(init)?),
        };
    }
    Ok(limited)
}

/// Returns true for references to exceptions. An exception has values outside the memories.
fn is_exception(ty: RefType) -> bool {
    let HeapType::Abstract { ty, .. } = ty.heap_type() else { return false };
    matches!(ty, AbstractHeapType::Exn | AbstractHeapType::NoExn)
}
