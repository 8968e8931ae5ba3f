//! The maximum of memories and tables.

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{MemorySection, TableSection};
use wasmparser::{MemorySectionReader, TableInit, TableSectionReader};

use crate::error::GuardError;

/// The size of a page, in bytes.
const PAGE: u64 = 64 << 10;

/// The maximum of a table, in elements. An element takes 8 bytes or more, outside the memories.
const MAX_TABLE: u64 = 1 << 20;

/// Writes a maximum into the memories that a module defines. Imported memories have that of their definition.
pub(crate) fn limit_memories(
    section: MemorySectionReader<'_>,
    bytes: u64,
) -> Result<MemorySection, GuardError> {
    let mut limited = MemorySection::new();
    for memory in section {
        let mut memory = RoundtripReencoder.memory_type(memory?)?;
        let pages = (bytes / PAGE).max(1);
        if memory.minimum > pages {
            let mib = |pages: u64| (pages * PAGE).div_ceil(1 << 20);
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
        let maximum = MAX_TABLE.max(ty.minimum);
        ty.maximum = Some(ty.maximum.map_or(maximum, |known| known.min(maximum)));
        match table.init {
            TableInit::RefNull => limited.table(ty),
            TableInit::Expr(init) => limited.table_with_init(ty, &encoder.const_expr(init)?),
        };
    }
    Ok(limited)
}
