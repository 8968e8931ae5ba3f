//! The sections of components, and the parts of a core module that the guard needs before it writes.

use std::ops::Range;

use wasmparser::{
    Chunk, CompositeInnerType, FuncType, FunctionBody, KnownCustom, NameSectionReader, Parser, Payload,
    TypeRef,
};

use crate::error::GuardError;

/// Returns the bytes of a section. A parser doesn't check the length of sections that contain others.
pub(crate) fn slice<'a>(bytes: &'a [u8], range: &Range<u64>) -> Result<&'a [u8], GuardError> {
    let bytes = bytes.get(range.start as usize..range.end as usize);
    bytes.ok_or_else(|| GuardError::Invalid("it is truncated".into()))
}

/// Returns the sections of a component, without those of its modules and nested components.
pub(crate) fn payloads(bytes: &[u8]) -> Result<Vec<Payload<'_>>, GuardError> {
    let (mut parser, mut rest, mut payloads) = (Parser::new(0), bytes, vec![]);
    while !rest.is_empty() {
        let Chunk::Parsed { consumed, payload } = parser.parse(rest, true)? else { break };
        rest = &rest[consumed..];
        if let Payload::ModuleSection { unchecked_range, .. }
        | Payload::ComponentSection { unchecked_range, .. } = &payload
        {
            rest = &rest[slice(bytes, unchecked_range)?.len()..];
        }
        payloads.push(payload);
    }
    Ok(payloads)
}

/// The parts of a core module.
#[derive(Default)]
pub(crate) struct Sections<'a> {
    pub(crate) payloads: Vec<Payload<'a>>,
    pub(crate) types: Vec<Option<FuncType>>,
    /// The type of each function, imported ones first.
    pub(crate) functions: Vec<u32>,
    pub(crate) imported_functions: usize,
    pub(crate) imported_globals: u32,
    pub(crate) bodies: Vec<FunctionBody<'a>>,
    pub(crate) exported_functions: Vec<(&'a str, u32)>,
    pub(crate) names: Option<NameSectionReader<'a>>,
}

impl<'a> Sections<'a> {
    pub(crate) fn read(module: &'a [u8]) -> Result<Self, GuardError> {
        let mut sections = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            let payload = payload?;
            sections.note(&payload)?;
            sections.payloads.push(payload);
        }
        Ok(sections)
    }

    fn note(&mut self, payload: &Payload<'a>) -> Result<(), GuardError> {
        match payload {
            Payload::TypeSection(section) => {
                for group in section.clone() {
                    let types = group?.into_types();
                    self.types.extend(types.map(|ty| match ty.composite_type.inner {
                        CompositeInnerType::Func(ty) => Some(ty),
                        _ => None,
                    }));
                }
            }
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    match import?.ty {
                        TypeRef::Func(ty) | TypeRef::FuncExact(ty) => self.functions.push(ty),
                        TypeRef::Global(_) => self.imported_globals += 1,
                        _ => {}
                    }
                }
                self.imported_functions = self.functions.len();
            }
            Payload::FunctionSection(section) => {
                for ty in section.clone() {
                    self.functions.push(ty?);
                }
            }
            Payload::ExportSection(section) => {
                for export in section.clone() {
                    let export = export?;
                    if export.kind == wasmparser::ExternalKind::Func {
                        self.exported_functions.push((export.name, export.index));
                    }
                }
            }
            Payload::CodeSectionEntry(body) => self.bodies.push(body.clone()),
            Payload::CustomSection(section) => {
                if let KnownCustom::Name(names) = section.as_known() {
                    self.names = Some(names);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns the type of a function.
    pub(crate) fn function_type(&self, function: u32) -> Result<(u32, &FuncType), GuardError> {
        let index = self.functions.get(function as usize).copied();
        let ty = index.and_then(|index| Some((index, self.types.get(index as usize)?.as_ref()?)));
        ty.ok_or_else(|| GuardError::Invalid(format!("function {function} has no type")))
    }
}
