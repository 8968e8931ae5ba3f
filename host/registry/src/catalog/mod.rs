//! The stage catalog: names, their versions, and the changes to them.
//!
//! A name has versions and points to one of them, its current version, or to the built-in stage. Each new task resolves
//! the name, so a change takes effect with the next task. Before a change, every rule that uses the name is checked
//! with the new stage. If a rule would fail, the change is rejected.

mod checks;
mod error;
mod rule_check;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use logship_logstore::{
    Catalog, NewStageVersion, StageAction, StageAlias, StageChange, StageTarget, Store, StoreError,
};
use tokio::runtime::Handle;

pub use error::CatalogError;
pub use rule_check::{RuleCheck, RuleChecker, RuleRef};

use crate::{Registry, VERSION_SEPARATOR};
use checks::check_pinned;
use logship_config::stage_name::{DIGEST_PREFIX, is_name};
use logship_runtime::stage::{Kind, Stage, StageError};

/// The version of a name that points to the built-in stage.
pub const BUILT_IN: &str = "built-in";

/// The number of versions kept for a name, besides the current one.
const MAX_VERSIONS: usize = 20;

/// The result of a change.
#[derive(Debug, Clone)]
pub struct StageUpdate {
    /// The name.
    pub name: String,
    /// The current version; [`BUILT_IN`] for the built-in stage.
    pub version: String,
    /// The version that was added or already existed.
    pub added: Option<String>,
    /// The rules that use the name.
    pub rules: Vec<String>,
}

/// The names of a service and their versions. Changes run one at a time. They block on the disk and on compilation.
#[derive(Debug)]
pub struct StageCatalog {
    store: Arc<Store>,
    registry: Registry,
    checker: Arc<dyn RuleChecker>,
    runtime: Handle,
    change_lock: Mutex<()>,
    cached_checks: Mutex<Option<CachedChecks>>,
}

/// The checks of all rules, and the catalog that they were made with.
type CachedChecks = (Arc<Catalog>, Arc<Vec<RuleCheck>>);

impl StageCatalog {
    /// Creates the catalog of a store. `registry` must be [for the same store](Registry::for_store).
    pub fn new(
        store: Arc<Store>,
        registry: Registry,
        checker: Arc<dyn RuleChecker>,
        runtime: Handle,
    ) -> Self {
        let (change_lock, cached_checks) = (Mutex::default(), Mutex::default());
        Self { store, registry, checker, runtime, change_lock, cached_checks }
    }

    /// The registry that resolves the names.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Adds a component as a version of a name. The default name is the component's own. A new name points to the new
    /// version; an existing name does so only with `swap`.
    ///
    /// # Errors
    /// Fails if the name or component is invalid, or a rule would fail. Nothing is changed then.
    pub fn add(
        &self,
        name: Option<&str>,
        bytes: &[u8],
        source: &str,
        by: &str,
        swap: bool,
    ) -> Result<StageUpdate, CatalogError> {
        let _lock = self.lock_changes();
        let origin = if source.is_empty() { name.unwrap_or("the component") } else { source };
        let stage = self.registry.compile_as(name.unwrap_or_default(), origin, bytes)?;
        let name = name.unwrap_or(stage.identity().name()).to_owned();
        if !is_name(&name) {
            return Err(CatalogError::Name(name));
        }
        let alias = self.alias(&name);
        self.check_kind(&name, alias.as_ref(), &stage)?;
        let is_new = alias.is_none() && Registry::built_in_digest(&name).is_none();
        let mut change = self.change(&name, alias.as_ref(), StageAction::Add, stage.kind(), by);
        change.version = Some(version(&stage, bytes.len(), source));
        let mut rules = vec![];
        if is_new || swap {
            check_pinned(&name, alias.as_ref())?;
            rules = self.check_rules(&name, &stage)?;
            if swap {
                change.action = StageAction::Swap;
            }
            change.target = Some(self.target(&name, alias.as_ref(), Some(stage.identity().digest())));
        }
        let stage = self.registry.store_component(stage, bytes)?;
        let added = self.commit(change)?;
        self.prune_versions(&name, by)?;
        drop(stage);
        Ok(StageUpdate { version: self.current_version(&name), name, added, rules })
    }

    /// Points a name at another stage: a version of the name, a component by its digest, another name or one of its
    /// versions, or [`BUILT_IN`]. With `pin`, the name is also pinned.
    ///
    /// # Errors
    /// Fails if the stage is unknown, the name is pinned, or a rule would fail. Nothing is changed then.
    pub fn swap(&self, name: &str, to: &str, pin: bool, by: &str) -> Result<StageUpdate, CatalogError> {
        let _lock = self.lock_changes();
        let alias = self.existing_alias(name)?;
        if !pin {
            check_pinned(name, alias.as_ref())?;
        }
        let stage = self.resolve(name, alias.as_ref(), to)?;
        self.check_kind(name, alias.as_ref(), &stage)?;
        let rules = self.check_rules(name, &stage)?;
        let digest = stage.identity().digest();
        let is_built_in = Registry::built_in_digest(name) == Some(digest);
        let is_other = self.current_digest(name).as_deref() != Some(digest);
        let action = if is_other { StageAction::Swap } else { StageAction::Pin };
        let mut change = self.change(name, alias.as_ref(), action, stage.kind(), by);
        if is_other {
            change.version = (!is_built_in).then(|| version(&stage, stage.identity().size(), to));
            change.target = Some(self.target(name, alias.as_ref(), (!is_built_in).then_some(digest)));
        }
        change.pinned = pin.then_some(true);
        if is_other || pin {
            self.commit(change)?;
            self.prune_versions(name, by)?;
        }
        Ok(StageUpdate { name: name.to_owned(), version: self.current_version(name), added: None, rules })
    }

    /// Points a name back at its previous version.
    ///
    /// # Errors
    /// Fails if the name has no previous version, is pinned, or a rule would fail. Nothing is changed then.
    pub fn rollback(&self, name: &str, by: &str) -> Result<StageUpdate, CatalogError> {
        let _lock = self.lock_changes();
        let alias = self.existing_alias(name)?;
        check_pinned(name, alias.as_ref())?;
        let (digest, before) = self.previous(name, alias.as_ref())?;
        let target = match &digest {
            Some(digest) => format!("{DIGEST_PREFIX}{digest}"),
            None => BUILT_IN.to_owned(),
        };
        let stage = self.resolve(name, alias.as_ref(), &target)?;
        let rules = self.check_rules(name, &stage)?;
        let mut change = self.change(name, alias.as_ref(), StageAction::Rollback, stage.kind(), by);
        change.target = Some(StageTarget { digest, previous: before, replaced: self.current_digest(name) });
        self.commit(change)?;
        Ok(StageUpdate { name: name.to_owned(), version: self.current_version(name), added: None, rules })
    }

    /// Pins a name to its current version, or unpins it with `pinned` false.
    ///
    /// # Errors
    /// Fails if the name is unknown. Nothing is changed then.
    pub fn pin(&self, name: &str, pinned: bool, by: &str) -> Result<StageUpdate, CatalogError> {
        let _lock = self.lock_changes();
        let alias = self.existing_alias(name)?;
        let kind = self.registry.stage(None, name)?.kind();
        let action = if pinned { StageAction::Pin } else { StageAction::Unpin };
        let change = self.change(name, alias.as_ref(), action, kind, by);
        self.commit(StageChange { pinned: Some(pinned), ..change })?;
        Ok(StageUpdate {
            name: name.to_owned(),
            version: self.current_version(name),
            added: None,
            rules: vec![],
        })
    }

    /// Removes a version of a name, or the name. The component is kept as long as a task needs it.
    ///
    /// # Errors
    /// Fails if the version is the current one, the name is pinned or built in, or a rule uses it. Nothing is changed then.
    pub fn remove(&self, name: &str, version: Option<&str>, by: &str) -> Result<(), CatalogError> {
        let _lock = self.lock_changes();
        let Some(alias) = self.existing_alias(name)? else {
            return Err(CatalogError::BuiltIn(name.to_owned()));
        };
        let expected = alias.current.as_ref().map(|current| current.id);
        let removed = match version {
            None => {
                check_pinned(name, Some(&alias))?;
                match Registry::built_in_digest(name) {
                    Some(_) => {
                        let stage = self.resolve(name, Some(&alias), BUILT_IN)?;
                        self.check_rules(name, &stage)?;
                    }
                    None => self.check_unused(name)?,
                }
                self.check_unused_versions(name, &alias)?;
                self.store.remove_stage(name, None, expected, by)
            }
            Some(version) => {
                let found = alias.version(version.strip_prefix(DIGEST_PREFIX).unwrap_or(version));
                let found = found.ok_or_else(|| no_version(name, version, &alias))?;
                if alias.digest() == Some(&found.digest) {
                    return Err(CatalogError::Current {
                        name: name.to_owned(),
                        version: found.version.clone(),
                    });
                }
                self.check_unused(&format!("{name}{VERSION_SEPARATOR}{}", found.version))?;
                self.store.remove_stage(name, Some(&found.digest), expected, by)
            }
        };
        self.runtime.block_on(removed)?;
        tracing::info!(stage = name, version, by, "removed a stage");
        self.checker.stages_changed();
        Ok(())
    }

    fn lock_changes(&self) -> MutexGuard<'_, ()> {
        lock(&self.change_lock)
    }

    fn alias(&self, name: &str) -> Option<StageAlias> {
        self.store.catalog().stages().aliases.get(name).cloned()
    }

    /// The catalog's alias for a name, or none for an unchanged built-in stage.
    fn existing_alias(&self, name: &str) -> Result<Option<StageAlias>, CatalogError> {
        match self.alias(name) {
            None if Registry::built_in_digest(name).is_none() => Err(CatalogError::Unknown(name.to_owned())),
            alias => Ok(alias),
        }
    }

    /// The digest of a name's current version.
    fn current_digest(&self, name: &str) -> Option<String> {
        let catalog = self.store.catalog();
        catalog.stages().current(name).or(Registry::built_in_digest(name)).map(str::to_owned)
    }

    /// The current version of a name.
    fn current_version(&self, name: &str) -> String {
        let current = self.alias(name).and_then(|alias| alias.current);
        current.filter(|current| current.digest.is_some()).map_or(BUILT_IN.into(), |current| current.version)
    }

    fn change(
        &self,
        name: &str,
        alias: Option<&StageAlias>,
        action: StageAction,
        kind: Kind,
        by: &str,
    ) -> StageChange {
        StageChange {
            name: name.to_owned(),
            action,
            kind: kind.to_string(),
            by: by.to_owned(),
            expected: current_event(alias),
            version: None,
            target: None,
            pinned: None,
        }
    }

    fn target(&self, name: &str, alias: Option<&StageAlias>, digest: Option<&str>) -> StageTarget {
        StageTarget {
            digest: digest.map(str::to_owned),
            previous: current_event(alias),
            replaced: self.current_digest(name),
        }
    }

    fn commit(&self, change: StageChange) -> Result<Option<String>, StoreError> {
        let (name, action, by) = (change.name.clone(), change.action, change.by.clone());
        let added = self.runtime.block_on(self.store.change_stage(change))?;
        tracing::info!(stage = name, %action, version = self.current_version(&name), by, "changed a stage");
        self.checker.stages_changed();
        Ok(added)
    }

    /// Resolves the target of a swap: a version of the name, [`BUILT_IN`], or anything that the registry resolves.
    fn resolve(&self, name: &str, alias: Option<&StageAlias>, to: &str) -> Result<Stage, CatalogError> {
        if let Some(found) = alias.and_then(|alias| alias.version(to)) {
            return Ok(self.registry.stage(None, &format!("{DIGEST_PREFIX}{}", found.digest))?);
        }
        if to == BUILT_IN {
            let digest =
                Registry::built_in_digest(name).ok_or_else(|| CatalogError::Unknown(name.to_owned()))?;
            return Ok(self.registry.stage(None, &format!("{DIGEST_PREFIX}{digest}"))?);
        }
        match self.registry.stage(None, to) {
            Err(StageError::Unknown { .. }) => Err(match alias {
                Some(alias) => no_version(name, to, alias),
                None => CatalogError::Unknown(to.to_owned()),
            }),
            found => Ok(found?),
        }
    }

    /// The digest that a rollback returns to, and the event that the next rollback starts from.
    fn previous(
        &self,
        name: &str,
        alias: Option<&StageAlias>,
    ) -> Result<(Option<String>, Option<i64>), CatalogError> {
        let no_previous = || CatalogError::NoPrevious(name.to_owned());
        let alias = alias.ok_or_else(no_previous)?;
        let mut before = alias.current.as_ref().ok_or_else(no_previous)?.previous;
        while let Some(id) = before {
            let Some(event) = self.store.stage_event(id)? else { break };
            let still_exists = match &event.digest {
                Some(digest) => alias.version(digest).is_some(),
                None => true,
            };
            if still_exists && event.digest.as_deref() != alias.digest() {
                return Ok((event.digest, event.previous));
            }
            before = event.previous;
        }
        // Before its first change, the name pointed to the built-in stage.
        match Registry::built_in_digest(name) {
            Some(_) if alias.digest().is_some() => Ok((None, None)),
            _ => Err(no_previous()),
        }
    }

    /// Removes the oldest versions of a name beyond the limit, but not the current one or one that a rule names.
    fn prune_versions(&self, name: &str, by: &str) -> Result<(), CatalogError> {
        let Some(alias) = self.alias(name).filter(|alias| alias.versions.len() > MAX_VERSIONS) else {
            return Ok(());
        };
        let checks = self.rule_checks();
        let is_named = |version: &str| {
            let full_name = format!("{name}{VERSION_SEPARATOR}{version}");
            checks.iter().any(|check| check.names.contains(&full_name))
        };
        let excess = alias.versions.len() - MAX_VERSIONS;
        let oldest = alias.versions.iter().filter(|version| alias.digest() != Some(&version.digest));
        for version in oldest.take(excess).filter(|version| !is_named(&version.version)) {
            let removed =
                self.store.remove_stage(name, Some(&version.digest), current_event(Some(&alias)), by);
            self.runtime.block_on(removed)?;
        }
        Ok(())
    }
}

/// The event that set the current version of a name.
fn current_event(alias: Option<&StageAlias>) -> Option<i64> {
    alias?.current.as_ref().map(|current| current.id)
}

fn no_version(name: &str, version: &str, alias: &StageAlias) -> CatalogError {
    let known = alias.versions.iter().map(|known| known.version.clone()).collect();
    StageError::NoVersion { name: name.to_owned(), version: version.to_owned(), known }.into()
}

fn version(stage: &Stage, size: usize, source: &str) -> NewStageVersion {
    let identity = stage.identity();
    NewStageVersion {
        version: identity.version().to_owned(),
        digest: identity.digest().to_owned(),
        size: size as u64,
        source: source.to_owned(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
