//! Rewrites a core module.

use std::collections::BTreeSet;
use std::convert::Infallible;

use wasm_encoder::reencode::{self, Reencode, RoundtripReencoder, utils};
use wasm_encoder::{
    BlockType, CodeSection, EntityType, ExportKind, ExportSection, Function, FunctionSection, GlobalType,
    ImportSection, Instruction, Module, NameMap, NameSection, RawSection, StartSection, TypeSection, ValType,
};
use wasmparser::{ExportSectionReader, Name, NameSectionReader, Parser, Payload};

use crate::body::{Counter, Signature, guarded};
use crate::error::GuardError;
use crate::memory::{limit_memories, limit_tables};
use crate::sections::{Sections, slice};

/// The name of the counter's module among the imports, if no other has it.
const COUNTER_MODULE: &str = "logship:guard";

/// The counter's name in its module.
pub(crate) const COUNTER: &str = "budget";

/// The name of the function that traps, for backtraces.
const OUT_OF_BUDGET: &str = "logship_guard::the_call_exceeded_its_budget_of_instructions";

/// The budget of a component's calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Budget {
    pub(crate) instructions: i64,
    /// The name of the counter's module among the imports.
    pub(crate) module: String,
}

impl Budget {
    /// Creates the budget of a component. Its names occur nowhere in the component, so that its own code can't import
    /// the counter, and a guarded component can be guarded again.
    pub(crate) fn new(instructions: u64, component: &[u8]) -> Self {
        let mut module = COUNTER_MODULE.to_owned();
        while component.windows(module.len()).any(|bytes| bytes == module.as_bytes()) {
            module.push('+');
        }
        Self { instructions: i64::try_from(instructions).unwrap_or(i64::MAX), module }
    }

    /// Returns the name of the export that calls from outside enter, instead of the export `name`.
    pub(crate) fn entry_name(&self, name: &str) -> String {
        format!("{}/{name}", self.module)
    }
}

/// Returns a module with a maximum for its memories, if there is one, and for its tables, and otherwise unchanged.
pub(crate) fn with_maximum(module: &[u8], memory: Option<u64>) -> Result<Vec<u8>, GuardError> {
    let mut limited = Module::new();
    for payload in Parser::new(0).parse_all(module) {
        match (payload?, memory) {
            (Payload::MemorySection(section), Some(bytes)) => {
                limited.section(&limit_memories(section, bytes)?);
            }
            (Payload::TableSection(section), _) => {
                limited.section(&limit_tables(&mut RoundtripReencoder, section)?);
            }
            (payload, _) => {
                if let Some((id, range)) = payload.as_section() {
                    let data = slice(module, &range)?;
                    limited.section(&RawSection { id, data });
                }
            }
        }
    }
    Ok(limited.finish())
}

/// Returns the module of the counter. It has the budget of a call until the first call.
pub(crate) fn counter_module(budget: i64) -> Module {
    let mut module = Module::new();
    let mut globals = wasm_encoder::GlobalSection::new();
    globals.global(COUNTER_TYPE, &wasm_encoder::ConstExpr::i64_const(budget));
    let mut exports = ExportSection::new();
    exports.export(COUNTER, ExportKind::Global, 0);
    module.section(&globals).section(&exports);
    module
}

const COUNTER_TYPE: GlobalType = GlobalType { val_type: ValType::I64, mutable: true, shared: false };

/// Returns a module that charges its calls. Exports in `entries` get a second export that resets the counter.
pub(crate) fn with_budget(
    module: &[u8],
    entries: &BTreeSet<&str>,
    budget: &Budget,
    memory: Option<u64>,
) -> Result<Vec<u8>, GuardError> {
    let sections = Sections::read(module)?;
    if sections.bodies.is_empty() {
        if !entries.is_empty() {
            return Err(GuardError::Shape("lets calls enter a module without functions"));
        }
        return with_maximum(module, memory);
    }
    let rewriter = Rewriter::new(&sections, entries, budget)?;
    rewriter.rewrite(&sections, module, memory)
}

/// An export that resets the counter and calls a function.
struct Entry<'a> {
    name: &'a str,
    function: u32,
}

/// Rewrites a module. Its globals follow the imported counter; new types and functions are the last ones.
struct Rewriter<'a> {
    renumber: Renumber,
    counter: Counter,
    entries: Vec<Entry<'a>>,
    budget: &'a Budget,
    /// The type of functions without parameters and results.
    empty_type: u32,
    /// The types without parameters and with more than one result, as types of blocks.
    block_types: Vec<Vec<wasmparser::ValType>>,
}

/// Makes place for the counter among the globals.
struct Renumber {
    imported_globals: u32,
}

impl Reencode for Renumber {
    type Error = Infallible;

    fn global_index(&mut self, global: u32) -> Result<u32, reencode::Error<Infallible>> {
        Ok(if global < self.imported_globals { global } else { global + 1 })
    }
}

impl<'a> Rewriter<'a> {
    fn new(sections: &Sections<'a>, wanted: &BTreeSet<&str>, budget: &'a Budget) -> Result<Self, GuardError> {
        let exported = sections.exported_functions.iter();
        let entries = exported.filter(|(name, _)| wanted.contains(name));
        let mut block_types = BTreeSet::new();
        for number in 0..sections.bodies.len() {
            let (_, ty) = sections.function_type((sections.imported_functions + number) as u32)?;
            if ty.results().len() > 1 {
                block_types.insert(ty.results().to_vec());
            }
        }
        Ok(Self {
            renumber: Renumber { imported_globals: sections.imported_globals },
            counter: Counter {
                global: sections.imported_globals,
                out_of_budget: sections.functions.len() as u32,
            },
            entries: entries.map(|&(name, function)| Entry { name, function }).collect(),
            budget,
            empty_type: sections.types.len() as u32,
            block_types: block_types.into_iter().collect(),
        })
    }

    fn rewrite(
        mut self,
        sections: &Sections<'_>,
        module: &[u8],
        memory: Option<u64>,
    ) -> Result<Vec<u8>, GuardError> {
        let mut out = Module::new();
        out.section(&self.types(sections)?).section(&self.imports(sections)?);
        out.section(&self.functions(sections)?);
        for payload in &sections.payloads {
            self.section(&mut out, sections, payload, module, memory)?;
        }
        if let Some(names) = &sections.names {
            out.section(&self.names(names.clone())?);
        }
        Ok(out.finish())
    }

    fn types(&mut self, sections: &Sections<'_>) -> Result<TypeSection, GuardError> {
        let mut types = TypeSection::new();
        for payload in &sections.payloads {
            if let Payload::TypeSection(section) = payload {
                utils::parse_type_section(&mut self.renumber, &mut types, section.clone())?;
            }
        }
        types.ty().function([], []);
        for results in &self.block_types {
            let results = results.iter().map(|ty| RoundtripReencoder.val_type(*ty));
            types.ty().function([], results.collect::<Result<Vec<_>, _>>()?);
        }
        Ok(types)
    }

    fn imports(&mut self, sections: &Sections<'_>) -> Result<ImportSection, GuardError> {
        let mut imports = ImportSection::new();
        for payload in &sections.payloads {
            if let Payload::ImportSection(section) = payload {
                utils::parse_import_section(&mut self.renumber, &mut imports, section.clone())?;
            }
        }
        imports.import(&self.budget.module, COUNTER, EntityType::Global(COUNTER_TYPE));
        Ok(imports)
    }

    fn functions(&self, sections: &Sections<'_>) -> Result<FunctionSection, GuardError> {
        let mut functions = FunctionSection::new();
        for ty in &sections.functions[sections.imported_functions..] {
            functions.function(*ty);
        }
        functions.function(self.empty_type);
        for entry in &self.entries {
            functions.function(sections.function_type(entry.function)?.0);
        }
        Ok(functions)
    }

    /// Writes a section, unless it is written already or has positions in the old code, like debug information.
    fn section(
        &mut self,
        out: &mut Module,
        sections: &Sections<'_>,
        payload: &Payload<'_>,
        module: &[u8],
        memory: Option<u64>,
    ) -> Result<(), GuardError> {
        match payload {
            Payload::TypeSection(_)
            | Payload::ImportSection(_)
            | Payload::FunctionSection(_)
            | Payload::CustomSection(_) => {}
            Payload::TableSection(section) => {
                out.section(&limit_tables(&mut self.renumber, section.clone())?);
            }
            Payload::MemorySection(section) if memory.is_some() => {
                out.section(&limit_memories(section.clone(), memory.unwrap_or_default())?);
            }
            Payload::GlobalSection(section) => {
                let mut globals = wasm_encoder::GlobalSection::new();
                utils::parse_global_section(&mut self.renumber, &mut globals, section.clone())?;
                out.section(&globals);
            }
            Payload::ExportSection(section) => {
                out.section(&self.exports(section.clone())?);
            }
            Payload::StartSection { func, .. } => {
                out.section(&StartSection { function_index: *func });
            }
            Payload::ElementSection(section) => {
                let mut elements = wasm_encoder::ElementSection::new();
                utils::parse_element_section(&mut self.renumber, &mut elements, section.clone())?;
                out.section(&elements);
            }
            Payload::CodeSectionStart { .. } => {
                out.section(&self.code(sections)?);
            }
            Payload::DataSection(section) => {
                let mut data = wasm_encoder::DataSection::new();
                utils::parse_data_section(&mut self.renumber, &mut data, section.clone())?;
                out.section(&data);
            }
            payload => {
                if let Some((id, range)) = payload.as_section() {
                    let data = slice(module, &range)?;
                    out.section(&RawSection { id, data });
                }
            }
        }
        Ok(())
    }

    fn exports(&mut self, section: ExportSectionReader<'_>) -> Result<ExportSection, GuardError> {
        let mut exports = ExportSection::new();
        utils::parse_export_section(&mut self.renumber, &mut exports, section)?;
        for (entry, function) in self.entries.iter().zip(self.counter.out_of_budget + 1..) {
            exports.export(&self.budget.entry_name(entry.name), ExportKind::Func, function);
        }
        Ok(exports)
    }

    fn code(&mut self, sections: &Sections<'_>) -> Result<CodeSection, GuardError> {
        let mut code = CodeSection::new();
        for (body, function) in sections.bodies.iter().zip(sections.imported_functions as u32..) {
            let signature = self.signature(sections, function)?;
            code.function(&guarded(&mut self.renumber, body, signature, self.counter)?);
        }
        let mut out_of_budget = Function::new([]);
        out_of_budget.instruction(&Instruction::Unreachable).instruction(&Instruction::End);
        code.function(&out_of_budget);
        for entry in &self.entries {
            let parameters = sections.function_type(entry.function)?.1.params().len() as u32;
            code.function(&self.entry(entry.function, parameters));
        }
        Ok(code)
    }

    fn signature(&self, sections: &Sections<'_>, function: u32) -> Result<Signature, GuardError> {
        let (_, ty) = sections.function_type(function)?;
        let results = match ty.results() {
            [] => BlockType::Empty,
            [result] => BlockType::Result(RoundtripReencoder.val_type(*result)?),
            results => {
                let place = self.block_types.iter().take_while(|known| *known != results).count();
                BlockType::FunctionType(self.empty_type + 1 + place as u32)
            }
        };
        Ok(Signature { parameters: ty.params().len() as u32, results })
    }

    /// Returns a function that resets the counter before and after a call. The canonical ABI allocates the arguments of
    /// the next call and frees the results of this one outside of both.
    fn entry(&self, function: u32, parameters: u32) -> Function {
        let mut entry = Function::new([]);
        let reset =
            [Instruction::I64Const(self.budget.instructions), Instruction::GlobalSet(self.counter.global)];
        let arguments = (0..parameters).map(Instruction::LocalGet);
        let call = arguments.chain([Instruction::Call(function)]);
        for instruction in reset.clone().into_iter().chain(call).chain(reset).chain([Instruction::End]) {
            entry.instruction(&instruction);
        }
        entry
    }

    /// Returns the names of functions, for backtraces, with that of the function that traps.
    fn names(&self, section: NameSectionReader<'_>) -> Result<NameSection, GuardError> {
        let (mut names, mut functions) = (NameSection::new(), NameMap::new());
        for name in section {
            match name? {
                Name::Module { name, .. } => names.module(name),
                Name::Function(map) => {
                    for naming in map {
                        let naming = naming?;
                        functions.append(naming.index, naming.name);
                    }
                }
                _ => {}
            }
        }
        functions.append(self.counter.out_of_budget, OUT_OF_BUDGET);
        names.functions(&functions);
        Ok(names)
    }
}
