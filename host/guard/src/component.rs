//! Guards a component: rewrites its core modules, and connects them with its counter.
//!
//! Each component has one counter for all its modules, in a small module of its own that comes first. So the numbers of
//! the other modules and instances grow by one. A nested component has a counter of its own, as it can't share a global.
//! So code that is not trusted must not call other components: each call would renew the budget of the called one.

use std::collections::{BTreeMap, BTreeSet};

use wasm_encoder::reencode::{RoundtripReencoder, component_utils};
use wasm_encoder::{
    Alias, Component, ComponentAliasSection, ComponentSectionId, InstanceSection, ModuleArg, ModuleSection,
    RawSection,
};
use wasmparser::{
    ComponentAlias, ComponentAliasSectionReader, ComponentExternalKind, ComponentInstance,
    ComponentOuterAliasKind, ComponentTypeRef, Instance, InstanceSectionReader, Parser, Payload, Validator,
    WasmFeatures,
};

use crate::entries::Entries;
use crate::error::GuardError;
use crate::module::{Budget, counter_module, with_budget, with_maximum};
use crate::sections::{payloads, slice};
use crate::totals::Totals;

/// The limits that are written into a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard {
    /// The instructions of a call. `None`: no budget. Instructions are counted as they are written: compiled code has
    /// about one for each.
    pub budget: Option<u64>,
    /// The largest size of each memory, in bytes. `None`: that of the component.
    pub memory: Option<u64>,
}

/// The budget of a call that suits stages: some seconds of computation, and a hundred times as much as a chunk of logs
/// takes.
pub const DEFAULT_BUDGET: u64 = 20_000_000_000;

impl Guard {
    /// Returns the component with these limits in each of its modules. Components inside for which `is_trusted` returns
    /// true get no budget.
    ///
    /// # Errors
    /// If it is not a valid component, or if it can't have these limits.
    pub fn component(
        &self,
        component: &[u8],
        is_trusted: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Vec<u8>, GuardError> {
        if !Parser::is_component(component) {
            return Err(GuardError::Invalid("it is not a WebAssembly component".into()));
        }
        // Without a budget, all proposals are fine.
        let features = if self.budget.is_some() { features() } else { WasmFeatures::all() };
        Validator::new_with_features(features).validate_all(component)?;
        let totals = Totals::of(component)?;
        if self.budget.is_some() {
            totals.check()?;
        }
        let is_composed = totals.components_with_code > 1;
        let guarded = Rewriter { guard: *self, is_trusted, is_composed }.component(component)?.finish();
        let checked = Validator::new_with_features(features).validate_all(&guarded);
        checked.map_err(|error| GuardError::Rewritten(error.to_string()))?;
        Ok(guarded)
    }
}

/// Returns the proposals that the guard knows. Garbage collection allocates outside of memories, and threads share them.
fn features() -> WasmFeatures {
    WasmFeatures::all()
        - WasmFeatures::GC
        - WasmFeatures::CM_GC
        - WasmFeatures::THREADS
        - WasmFeatures::SHARED_EVERYTHING_THREADS
        - WasmFeatures::CM_THREADING
        - WasmFeatures::STACK_SWITCHING
        - WasmFeatures::LEGACY_EXCEPTIONS
        - WasmFeatures::MEMORY64
        - WasmFeatures::CM64
        - WasmFeatures::CUSTOM_PAGE_SIZES
        - WasmFeatures::CUSTOM_DESCRIPTORS
        - WasmFeatures::MEMORY_CONTROL
}

/// Rewrites components.
struct Rewriter<'a> {
    guard: Guard,
    is_trusted: &'a dyn Fn(&[u8]) -> bool,
    /// True if more than one component has code.
    is_composed: bool,
}

impl Rewriter<'_> {
    fn component(&self, bytes: &[u8]) -> Result<Component, GuardError> {
        let guard = Guard { budget: self.guard.budget.filter(|_| !(self.is_trusted)(bytes)), ..self.guard };
        let payloads = payloads(bytes)?;
        let mut entries = Entries::default();
        for payload in &payloads {
            entries.note(payload)?;
            if guard.budget.is_some() {
                check_parts(payload)?;
            }
        }
        if guard.budget.is_some() && self.is_composed && entries.calls_others() {
            return Err(GuardError::CallsComponents);
        }
        let mut out = Component::new();
        let budget = guard.budget.filter(|_| entries.has_instances());
        let budget = budget.map(|instructions| Budget::new(instructions, bytes));
        if let Some(budget) = &budget {
            out.section(&ModuleSection(&counter_module(budget.instructions)));
            out.section(InstanceSection::new().instantiate(0, NO_ARGUMENTS));
        }
        let budget = budget.as_ref();
        let mut modules = Modules { by_module: entries.by_module()?, next: 0, budget, memory: guard.memory };
        let mut lifted = entries.lifted_aliases();
        for payload in payloads {
            match payload {
                Payload::ModuleSection { unchecked_range: range, .. } => {
                    let module = modules.rewrite(slice(bytes, &range)?)?;
                    out.section(&RawSection { id: ComponentSectionId::CoreModule.into(), data: &module });
                }
                Payload::ComponentSection { unchecked_range: range, .. } => {
                    let nested = Self { guard, ..*self }.component(slice(bytes, &range)?)?;
                    let data = nested.as_slice();
                    out.section(&RawSection { id: ComponentSectionId::Component.into(), data });
                }
                Payload::InstanceSection(section) if let Some(budget) = budget => {
                    out.section(&instances(section, budget)?);
                }
                Payload::ComponentAliasSection(section) if let Some(budget) = budget => {
                    out.section(&aliases(section, &mut lifted, budget)?);
                }
                payload => {
                    if let Some((id, range)) = payload.as_section() {
                        out.section(&RawSection { id, data: slice(bytes, &range)? });
                    }
                }
            }
        }
        Ok(out)
    }
}

const NO_ARGUMENTS: [(&str, ModuleArg); 0] = [];

/// The modules of a component.
struct Modules<'a> {
    by_module: BTreeMap<u32, BTreeSet<&'a str>>,
    next: u32,
    budget: Option<&'a Budget>,
    memory: Option<u64>,
}

impl Modules<'_> {
    /// Rewrites the next module.
    fn rewrite(&mut self, module: &[u8]) -> Result<Vec<u8>, GuardError> {
        let entries = self.by_module.remove(&self.next).unwrap_or_default();
        self.next += 1;
        match (self.budget, self.memory) {
            (Some(budget), memory) => with_budget(module, &entries, budget, memory),
            (None, Some(_)) => with_maximum(module, self.memory),
            (None, None) => Ok(module.to_vec()),
        }
    }
}

/// Rewrites core instances: each module gets the counter, which is the first instance.
fn instances(section: InstanceSectionReader<'_>, budget: &Budget) -> Result<InstanceSection, GuardError> {
    let mut instances = InstanceSection::new();
    for instance in section {
        match instance? {
            Instance::Instantiate { module_index, args } => {
                let arguments =
                    args.iter().map(|argument| (argument.name, ModuleArg::Instance(argument.index + 1)));
                let counter = (budget.module.as_str(), ModuleArg::Instance(0));
                let arguments: Vec<_> = arguments.chain([counter]).collect();
                instances.instantiate(module_index + 1, arguments);
            }
            Instance::FromExports(exports) => {
                let exports = exports.iter().map(|export| (export.name, export.kind.into(), export.index));
                instances.export_items(exports.collect::<Vec<_>>());
            }
        }
    }
    Ok(instances)
}

/// Rewrites aliases: lifted functions are those that reset the counter. `lifted` tells it for each core function.
fn aliases(
    section: ComponentAliasSectionReader<'_>,
    lifted: &mut impl Iterator<Item = bool>,
    budget: &Budget,
) -> Result<ComponentAliasSection, GuardError> {
    let mut aliases = ComponentAliasSection::new();
    for alias in section {
        let alias = component_utils::component_alias(&mut RoundtripReencoder, alias?)?;
        let Alias::CoreInstanceExport { instance, kind, name } = alias else {
            aliases.alias(alias);
            continue;
        };
        let is_lifted = kind == wasm_encoder::ExportKind::Func && lifted.next() == Some(true);
        let name = if is_lifted { budget.entry_name(name) } else { name.to_owned() };
        aliases.alias(Alias::CoreInstanceExport { instance: instance + 1, kind, name: &name });
    }
    Ok(aliases)
}

/// Fails if a component gets or passes on core modules, which could be instantiated without a counter, or components,
/// whose instances could not be counted.
fn check_parts(payload: &Payload<'_>) -> Result<(), GuardError> {
    let is_part = |kind| matches!(kind, ComponentExternalKind::Module | ComponentExternalKind::Component);
    let passes = match payload {
        Payload::ComponentImportSection(section) => section.clone().into_iter().any(|import| {
            let ty = import.map(|import| import.ty);
            matches!(ty, Ok(ComponentTypeRef::Module(_) | ComponentTypeRef::Component(_)))
        }),
        Payload::ComponentExportSection(section) => {
            section.clone().into_iter().any(|export| export.is_ok_and(|export| is_part(export.kind)))
        }
        Payload::ComponentAliasSection(section) => section.clone().into_iter().any(|alias| match alias {
            Ok(ComponentAlias::Outer { kind, .. }) => {
                matches!(kind, ComponentOuterAliasKind::CoreModule | ComponentOuterAliasKind::Component)
            }
            Ok(ComponentAlias::InstanceExport { kind, .. }) => is_part(kind),
            Ok(ComponentAlias::CoreInstanceExport { .. }) | Err(_) => false,
        }),
        Payload::ComponentInstanceSection(section) => {
            section.clone().into_iter().any(|instance| match instance {
                Ok(ComponentInstance::Instantiate { args, .. }) => args.iter().any(|part| is_part(part.kind)),
                Ok(ComponentInstance::FromExports(exports)) => {
                    exports.iter().any(|export| is_part(export.kind))
                }
                Err(_) => false,
            })
        }
        _ => false,
    };
    if passes { Err(GuardError::Shape("passes modules or components between components")) } else { Ok(()) }
}
