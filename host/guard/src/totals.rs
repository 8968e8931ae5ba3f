//! The memories, tables and instances of a component, with those of its nested components.

use wasmparser::{ComponentInstance, Instance, Parser, Payload};

use crate::error::GuardError;
use crate::sections::{payloads, slice};

/// The number of items of a running component. A module or component counts as often as it is instantiated.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    memories: u64,
    tables: u64,
    /// Of modules.
    instances: u64,
    /// The instances of components that have instances of modules.
    pub(crate) components_with_code: u64,
}

/// A component has one memory usually, and one that is fused of stages has one for each of them.
const MAX_MEMORIES: u64 = 32;
/// A component has some for itself.
const MAX_TABLES: u64 = 128;
/// A component of dynamic libraries has some dozens.
const MAX_INSTANCES: u64 = 1000;

impl Totals {
    /// Counts the items of a component.
    pub(crate) fn of(component: &[u8]) -> Result<Self, GuardError> {
        let (mut totals, mut modules, mut components) = (Self::default(), vec![], vec![]);
        let mut has_code = false;
        for payload in payloads(component)? {
            match payload {
                Payload::ModuleSection { unchecked_range: range, .. } => {
                    modules.push(Self::of_module(slice(component, &range)?)?);
                }
                Payload::ComponentSection { unchecked_range: range, .. } => {
                    components.push(Self::of(slice(component, &range)?)?);
                }
                Payload::InstanceSection(section) => {
                    for instance in section {
                        if let Instance::Instantiate { module_index, .. } = instance? {
                            totals.add(modules.get(module_index as usize));
                            has_code = true;
                        }
                    }
                }
                Payload::ComponentInstanceSection(section) => {
                    for instance in section {
                        if let ComponentInstance::Instantiate { component_index, .. } = instance? {
                            totals.add(components.get(component_index as usize));
                        }
                    }
                }
                _ => {}
            }
        }
        totals.components_with_code += u64::from(has_code);
        Ok(totals)
    }

    fn of_module(module: &[u8]) -> Result<Self, GuardError> {
        let mut totals = Self { instances: 1, ..Self::default() };
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::MemorySection(section) => totals.memories += u64::from(section.count()),
                Payload::TableSection(section) => totals.tables += u64::from(section.count()),
                _ => {}
            }
        }
        Ok(totals)
    }

    /// Adds the items of an instance. Of parts that are imported, nothing is known.
    fn add(&mut self, part: Option<&Self>) {
        let Some(part) = part else { return };
        self.memories = self.memories.saturating_add(part.memories);
        self.tables = self.tables.saturating_add(part.tables);
        self.instances = self.instances.saturating_add(part.instances);
        self.components_with_code = self.components_with_code.saturating_add(part.components_with_code);
    }

    /// Fails if there are too many items.
    pub(crate) fn check(&self) -> Result<(), GuardError> {
        for (kind, found, maximum) in [
            ("memories", self.memories, MAX_MEMORIES),
            ("tables", self.tables, MAX_TABLES),
            ("instances of modules", self.instances, MAX_INSTANCES),
        ] {
            if found > maximum {
                return Err(GuardError::TooMany { kind, found, maximum });
            }
        }
        Ok(())
    }
}
