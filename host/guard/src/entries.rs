//! The core functions that calls from outside enter.
//!
//! A component lifts core functions, which it finds as exports of its core instances. Calls between its own modules use
//! the same exports. Only lifted ones may reset the counter, so they get an export of their own.

use std::collections::{BTreeMap, BTreeSet};

use wasmparser::{CanonicalFunction, CanonicalOption, ComponentAlias, ExternalKind, Instance, Payload};

use crate::error::GuardError;

/// The core functions, modules and instances of a component, without those of nested components.
#[derive(Debug, Default)]
pub(crate) struct Entries<'a> {
    /// The core functions that are exports of an instance: the instance, and the export's name.
    functions: Vec<Option<(u32, &'a str)>>,
    /// The module of each core instance, if it is an instance of a module.
    instances: Vec<Option<u32>>,
    /// The functions that are lifted.
    lifted: BTreeSet<u32>,
    /// True if its code calls functions of the host or of other components.
    lowers: bool,
    /// The functions that modules import, or that the canonical ABI calls for other purposes. Callbacks are among them:
    /// one that yields again and again would renew its budget.
    inner: BTreeSet<u32>,
}

impl<'a> Entries<'a> {
    /// Notes the definitions in a section.
    pub(crate) fn note(&mut self, payload: &Payload<'a>) -> Result<(), GuardError> {
        match payload {
            Payload::InstanceSection(section) => {
                for instance in section.clone() {
                    self.instance(&instance?);
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section.clone() {
                    self.alias(&alias?);
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section.clone() {
                    self.canonical(&function?);
                }
            }
            Payload::ComponentTypeSection(section) => {
                for ty in section.clone() {
                    if let wasmparser::ComponentType::Resource { dtor: Some(function), .. } = ty? {
                        self.inner.insert(function);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn instance(&mut self, instance: &Instance<'a>) {
        self.instances.push(match instance {
            Instance::Instantiate { module_index, .. } => Some(*module_index),
            Instance::FromExports(exports) => {
                let functions = exports.iter().filter(|export| export.kind == ExternalKind::Func);
                self.inner.extend(functions.map(|export| export.index));
                None
            }
        });
    }

    fn alias(&mut self, alias: &ComponentAlias<'a>) {
        if let ComponentAlias::CoreInstanceExport { kind: ExternalKind::Func, instance_index, name } = alias {
            self.functions.push(Some((*instance_index, name)));
        }
    }

    fn canonical(&mut self, function: &CanonicalFunction) {
        if let CanonicalFunction::Lift { core_func_index, .. } = function {
            self.lifted.insert(*core_func_index);
        } else {
            self.lowers |= matches!(function, CanonicalFunction::Lower { .. });
            self.functions.push(None);
        }
        let options: &[CanonicalOption] = match function {
            CanonicalFunction::Lift { options, .. }
            | CanonicalFunction::Lower { options, .. }
            | CanonicalFunction::TaskReturn { options, .. }
            | CanonicalFunction::StreamRead { options, .. }
            | CanonicalFunction::StreamWrite { options, .. }
            | CanonicalFunction::FutureRead { options, .. }
            | CanonicalFunction::FutureWrite { options, .. }
            | CanonicalFunction::ErrorContextNew { options }
            | CanonicalFunction::ErrorContextDebugMessage { options } => options,
            _ => &[],
        };
        for option in options {
            match option {
                CanonicalOption::Callback(function)
                | CanonicalOption::Realloc(function)
                | CanonicalOption::PostReturn(function) => {
                    self.inner.insert(*function);
                }
                _ => {}
            }
        }
    }

    /// Returns true if the component has instances of modules.
    pub(crate) fn has_instances(&self) -> bool {
        self.instances.iter().any(Option::is_some)
    }

    /// Returns true if its code calls functions of the host or of other components.
    pub(crate) fn calls_others(&self) -> bool {
        self.has_instances() && self.lowers
    }

    /// Returns the exports that calls from outside enter, by module.
    pub(crate) fn by_module(&self) -> Result<BTreeMap<u32, BTreeSet<&'a str>>, GuardError> {
        let mut entries: BTreeMap<u32, BTreeSet<&str>> = BTreeMap::new();
        for function in &self.lifted {
            let export = self.functions.get(*function as usize).copied().flatten();
            // A function of another component, lifted again: it has a counter of its own.
            let Some((instance, name)) = export else { continue };
            let Some(module) = self.instances.get(instance as usize).copied().flatten() else {
                return Err(GuardError::Shape("lifts a function that is not the export of a module"));
            };
            if self.inner.contains(function) {
                return Err(GuardError::Shape("calls a lifted function itself"));
            }
            entries.entry(module).or_default().insert(name);
        }
        Ok(entries)
    }

    /// Returns, for each core function that is an export of an instance, true if it is lifted.
    pub(crate) fn lifted_aliases(&self) -> impl Iterator<Item = bool> {
        let aliases = (0..).zip(&self.functions).filter(|(_, export)| export.is_some());
        aliases.map(|(function, _)| self.lifted.contains(&function))
    }
}
