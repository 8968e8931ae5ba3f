//! What the names of a service's stages stand for, and how that changes.
//!
//! A name has versions. It stands for one of them, or for the stage that comes with logship; which one is looked up
//! whenever a task is made, so a change counts from the next task on. Nothing is changed before it is known that all
//! rules that use the name can go on with what it would stand for.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use logship_logstore::{
    Catalog, NewStageVersion, ShippingRule, StageAction, StageChange, StageName, StageTarget, Store,
    StoreError,
};
use tokio::runtime::Handle;

use super::{DIGEST, Registry, VERSION, is_name};
use crate::stage::{Kind, Stage, StageError};

/// What a name is called to stand for when that comes with logship.
pub const BUILT_IN: &str = "built-in";

/// Versions of a name that are kept besides the one that it stands for.
const KEPT: usize = 20;

/// A rule, where it stands.
#[derive(Debug, Clone)]
pub struct User {
    /// The project of its logstore.
    pub project: String,
    /// Its logstore.
    pub logstore: String,
    /// The rule.
    pub rule: ShippingRule,
}

impl std::fmt::Display for User {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} of {}/{}", self.rule.name, self.project, self.logstore)
    }
}

/// What came of trying a rule with the stages of a registry.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The rule.
    pub user: User,
    /// The stages that it asked for, as it names them.
    pub names: BTreeSet<String>,
    /// Why it can't go on with them.
    pub problem: Option<String>,
}

/// Who uses stages.
pub trait Users: std::fmt::Debug + Send + Sync {
    /// Tries whether a rule can go on with the stages of a registry.
    fn problem(&self, user: &User, registry: &Registry) -> Option<String>;

    /// A name stands for something else.
    fn changed(&self);
}

/// Why a name was not changed. Nothing is then.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The component can't serve.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The store failed, or somebody else was faster.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The name can't be one.
    #[error("{0:?} is no name of a stage: 1 to 63 of a-z, 0-9, `-`, `_` and `.`, a letter or digit first")]
    Name(String),
    /// There is no such name.
    #[error("no stage is called {0}; logship stage list shows those there are")]
    Unknown(String),
    /// The component is of another kind than the name's.
    #[error("{name} is {} {wanted}, and {stage} is {} {found}", article(wanted), article(found))]
    Kind {
        /// The name.
        name: String,
        /// The component.
        stage: String,
        /// Its kind.
        found: String,
        /// The name's.
        wanted: String,
    },
    /// A rule that uses the name can't go on with the component.
    #[error("rule {user} uses {name}, and can't go on with {stage}: {problem}")]
    Refused {
        /// The name.
        name: String,
        /// The component.
        stage: String,
        /// The rule.
        user: String,
        /// Why.
        problem: String,
    },
    /// The name is pinned.
    #[error("{name} is pinned to {version}; logship stage pin {name} --off lets it be changed")]
    Pinned {
        /// The name.
        name: String,
        /// The version.
        version: String,
    },
    /// There is nothing that the name stood for before.
    #[error("{0} stood for nothing else before")]
    First(String),
    /// The version is what the name stands for.
    #[error("{name} stands for {version}: swap it first")]
    Current {
        /// The name.
        name: String,
        /// The version.
        version: String,
    },
    /// Rules need it.
    #[error("{what} is used by {}", by.join(", "))]
    InUse {
        /// The name, or version of it.
        what: String,
        /// The rules.
        by: Vec<String>,
    },
    /// The name is not one of one's own.
    #[error("{0} comes with logship, and stays; logship stage rollback lets it be as it came")]
    BuiltIn(String),
}

/// What a change did.
#[derive(Debug, Clone)]
pub struct Changed {
    /// The name.
    pub name: String,
    /// The version that it stands for now; [`BUILT_IN`] for the stage that comes with logship.
    pub version: String,
    /// The version that was added, or already there.
    pub added: Option<String>,
    /// Rules that use the name.
    pub users: Vec<String>,
}

/// Changes what names stand for, one after the other. Blocks: on the disk, and while components are compiled.
#[derive(Debug)]
pub struct Book {
    store: Arc<Store>,
    registry: Registry,
    users: Arc<dyn Users>,
    runtime: Handle,
    changing: Mutex<()>,
    tried: Mutex<Option<Tried>>,
}

/// What came of trying all rules, with the catalog that it was tried by.
type Tried = (Arc<Catalog>, Arc<Vec<Trial>>);

impl Book {
    /// The names of a store. `registry` is one [of](Registry::of) the same.
    pub fn new(store: Arc<Store>, registry: Registry, users: Arc<dyn Users>, runtime: Handle) -> Self {
        Self { store, registry, users, runtime, changing: Mutex::default(), tried: Mutex::default() }
    }

    /// Where its stages are found.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Adds a component as a version of a name: by default, what it calls itself. A new name stands for it; another one
    /// does with `swap` only.
    ///
    /// # Errors
    /// With what is wrong; then nothing is changed.
    pub fn add(
        &self,
        name: Option<&str>,
        bytes: &[u8],
        source: &str,
        by: &str,
        swap: bool,
    ) -> Result<Changed, BookError> {
        let _changing = self.begin();
        let origin = if source.is_empty() { name.unwrap_or("the component") } else { source };
        let stage = self.registry.examine_as(name.unwrap_or_default(), origin, bytes)?;
        let name = name.unwrap_or(stage.identity().name()).to_owned();
        if !is_name(&name) {
            return Err(BookError::Name(name));
        }
        let known = self.name(&name);
        self.check_kind(&name, known.as_ref(), &stage)?;
        let is_new = known.is_none() && Registry::built_in_digest(&name).is_none();
        let mut change = self.change(&name, known.as_ref(), StageAction::Add, stage.kind(), by);
        change.version = Some(version(&stage, bytes.len(), source));
        let mut users = vec![];
        if is_new || swap {
            check_pinned(&name, known.as_ref())?;
            users = self.check_users(&name, &stage)?;
            if swap {
                change.action = StageAction::Swap;
            }
            change.target = Some(self.target(&name, known.as_ref(), Some(stage.identity().digest())));
        }
        let stage = self.registry.keep(stage, bytes)?;
        let added = self.commit(change)?;
        self.forget_oldest(&name, by)?;
        drop(stage);
        Ok(Changed { version: self.version(&name), name, added, users })
    }

    /// Lets a name stand for something else: a version of it, a component by its digest, another name or a version of
    /// that, or [`BUILT_IN`]. With `pin` it then stays that.
    ///
    /// # Errors
    /// With what is wrong; then nothing is changed.
    pub fn swap(&self, name: &str, to: &str, pin: bool, by: &str) -> Result<Changed, BookError> {
        let _changing = self.begin();
        let known = self.known(name)?;
        if !pin {
            check_pinned(name, known.as_ref())?;
        }
        let stage = self.sought(name, known.as_ref(), to)?;
        self.check_kind(name, known.as_ref(), &stage)?;
        let users = self.check_users(name, &stage)?;
        let digest = stage.identity().digest();
        let is_built_in = Registry::built_in_digest(name) == Some(digest);
        let is_other = self.stands_for(name).as_deref() != Some(digest);
        let action = if is_other { StageAction::Swap } else { StageAction::Pin };
        let mut change = self.change(name, known.as_ref(), action, stage.kind(), by);
        if is_other {
            change.version = (!is_built_in).then(|| version(&stage, stage.identity().size(), to));
            change.target = Some(self.target(name, known.as_ref(), (!is_built_in).then_some(digest)));
        }
        change.pinned = pin.then_some(true);
        if is_other || pin {
            self.commit(change)?;
            self.forget_oldest(name, by)?;
        }
        Ok(Changed { name: name.to_owned(), version: self.version(name), added: None, users })
    }

    /// Lets a name stand for what it stood for before.
    ///
    /// # Errors
    /// With what is wrong; then nothing is changed.
    pub fn rollback(&self, name: &str, by: &str) -> Result<Changed, BookError> {
        let _changing = self.begin();
        let known = self.known(name)?;
        check_pinned(name, known.as_ref())?;
        let (digest, before) = self.before(name, known.as_ref())?;
        let sought = match &digest {
            Some(digest) => format!("{DIGEST}{digest}"),
            None => BUILT_IN.to_owned(),
        };
        let stage = self.sought(name, known.as_ref(), &sought)?;
        let users = self.check_users(name, &stage)?;
        let mut change = self.change(name, known.as_ref(), StageAction::Rollback, stage.kind(), by);
        change.target = Some(StageTarget { digest, before, replaced: self.stands_for(name) });
        self.commit(change)?;
        Ok(Changed { name: name.to_owned(), version: self.version(name), added: None, users })
    }

    /// Lets a name stay what it is, or with `pinned` false be changed again.
    ///
    /// # Errors
    /// With what is wrong; then nothing is changed.
    pub fn pin(&self, name: &str, pinned: bool, by: &str) -> Result<Changed, BookError> {
        let _changing = self.begin();
        let known = self.known(name)?;
        let kind = self.registry.stage(None, name)?.kind();
        let action = if pinned { StageAction::Pin } else { StageAction::Unpin };
        let change = self.change(name, known.as_ref(), action, kind, by);
        self.commit(StageChange { pinned: Some(pinned), ..change })?;
        Ok(Changed { name: name.to_owned(), version: self.version(name), added: None, users: vec![] })
    }

    /// Takes a version from a name, or the whole name. Its component stays as long as a task needs it.
    ///
    /// # Errors
    /// With what is wrong; then nothing is changed.
    pub fn remove(&self, name: &str, version: Option<&str>, by: &str) -> Result<(), BookError> {
        let _changing = self.begin();
        let Some(known) = self.known(name)? else { return Err(BookError::BuiltIn(name.to_owned())) };
        let expected = known.current.as_ref().map(|current| current.id);
        let removed = match version {
            None => {
                check_pinned(name, Some(&known))?;
                match Registry::built_in_digest(name) {
                    Some(_) => {
                        let stage = self.sought(name, Some(&known), BUILT_IN)?;
                        self.check_users(name, &stage)?;
                    }
                    None => self.check_unused(name)?,
                }
                self.check_unused_versions(name, &known)?;
                self.store.remove_stage(name, None, expected, by)
            }
            Some(version) => {
                let found = known.version(version.strip_prefix(DIGEST).unwrap_or(version));
                let found = found.ok_or_else(|| no_version(name, version, &known))?;
                if known.digest() == Some(&found.digest) {
                    return Err(BookError::Current { name: name.to_owned(), version: found.version.clone() });
                }
                self.check_unused(&format!("{name}{VERSION}{}", found.version))?;
                self.store.remove_stage(name, Some(&found.digest), expected, by)
            }
        };
        self.runtime.block_on(removed)?;
        tracing::info!(stage = name, version, by, "a stage was removed");
        self.users.changed();
        Ok(())
    }

    /// All rules, each with the stages that it asks for, and what keeps it from going on with them.
    pub fn trials(&self) -> Arc<Vec<Trial>> {
        let catalog = self.store.catalog();
        let known = lock(&self.tried).clone();
        if let Some((_, trials)) = known.filter(|(known, _)| Arc::ptr_eq(known, &catalog)) {
            return trials;
        }
        let trials: Vec<Trial> = users(&catalog).map(|user| self.attempt(user, &self.registry)).collect();
        let trials = Arc::new(trials);
        *lock(&self.tried) = Some((catalog, Arc::clone(&trials)));
        trials
    }

    fn attempt(&self, user: User, registry: &Registry) -> Trial {
        let (registry, asked) = registry.watched();
        let problem = self.users.problem(&user, &registry);
        let names = std::mem::take(&mut *lock(&asked));
        Trial { user, names, problem }
    }

    fn begin(&self) -> MutexGuard<'_, ()> {
        lock(&self.changing)
    }

    fn name(&self, name: &str) -> Option<StageName> {
        self.store.catalog().stages().names.get(name).cloned()
    }

    /// What is known of a name; none of one that comes with logship and was never changed.
    fn known(&self, name: &str) -> Result<Option<StageName>, BookError> {
        match self.name(name) {
            None if Registry::built_in_digest(name).is_none() => Err(BookError::Unknown(name.to_owned())),
            known => Ok(known),
        }
    }

    /// The digest of what a name stands for.
    fn stands_for(&self, name: &str) -> Option<String> {
        let catalog = self.store.catalog();
        catalog.stages().current(name).or(Registry::built_in_digest(name)).map(str::to_owned)
    }

    /// The version that a name stands for.
    fn version(&self, name: &str) -> String {
        let current = self.name(name).and_then(|name| name.current);
        current.filter(|current| current.digest.is_some()).map_or(BUILT_IN.into(), |current| current.version)
    }

    fn change(
        &self,
        name: &str,
        known: Option<&StageName>,
        action: StageAction,
        kind: Kind,
        by: &str,
    ) -> StageChange {
        StageChange {
            name: name.to_owned(),
            action,
            kind: kind.to_string(),
            by: by.to_owned(),
            expected: event(known),
            version: None,
            target: None,
            pinned: None,
        }
    }

    fn target(&self, name: &str, known: Option<&StageName>, digest: Option<&str>) -> StageTarget {
        StageTarget {
            digest: digest.map(str::to_owned),
            before: event(known),
            replaced: self.stands_for(name),
        }
    }

    fn commit(&self, change: StageChange) -> Result<Option<String>, StoreError> {
        let (name, action, by) = (change.name.clone(), change.action, change.by.clone());
        let added = self.runtime.block_on(self.store.change_stage(change))?;
        tracing::info!(stage = name, %action, version = self.version(&name), by, "a stage was changed");
        self.users.changed();
        Ok(added)
    }

    /// The stage that `to` means for a name.
    fn sought(&self, name: &str, known: Option<&StageName>, to: &str) -> Result<Stage, BookError> {
        if let Some(found) = known.and_then(|known| known.version(to)) {
            return Ok(self.registry.stage(None, &format!("{DIGEST}{}", found.digest))?);
        }
        if to == BUILT_IN {
            let digest =
                Registry::built_in_digest(name).ok_or_else(|| BookError::Unknown(name.to_owned()))?;
            return Ok(self.registry.stage(None, &format!("{DIGEST}{digest}"))?);
        }
        match self.registry.stage(None, to) {
            Err(StageError::Unknown { .. }) => Err(match known {
                Some(known) => no_version(name, to, known),
                None => BookError::Unknown(to.to_owned()),
            }),
            found => Ok(found?),
        }
    }

    /// What a rollback goes back to, and what the next one would.
    fn before(
        &self,
        name: &str,
        known: Option<&StageName>,
    ) -> Result<(Option<String>, Option<i64>), BookError> {
        let first = || BookError::First(name.to_owned());
        let known = known.ok_or_else(first)?;
        let mut before = known.current.as_ref().ok_or_else(first)?.before;
        while let Some(id) = before {
            let Some(event) = self.store.stage_event(id)? else { break };
            let is_there = match &event.digest {
                Some(digest) => known.version(digest).is_some(),
                None => true,
            };
            if is_there && event.digest.as_deref() != known.digest() {
                return Ok((event.digest, event.before));
            }
            before = event.before;
        }
        // Before all that was done, it stood for what came with logship.
        match Registry::built_in_digest(name) {
            Some(_) if known.digest().is_some() => Ok((None, None)),
            _ => Err(first()),
        }
    }

    fn check_kind(&self, name: &str, known: Option<&StageName>, stage: &Stage) -> Result<(), BookError> {
        let found = stage.kind().to_string();
        let wanted = match known {
            Some(known) => Some(known.kind.clone()),
            None if Registry::built_in_digest(name).is_some() => {
                Some(self.registry.stage(None, name)?.kind().to_string())
            }
            None => None,
        };
        match wanted {
            Some(wanted) if wanted != found => {
                let (name, stage) = (name.to_owned(), stage.identity().to_string());
                Err(BookError::Kind { name, stage, found, wanted })
            }
            _ => Ok(()),
        }
    }

    /// Tries all rules that use a name with another stage. One that can't go on as it is does not count. Returns them.
    fn check_users(&self, name: &str, stage: &Stage) -> Result<Vec<String>, BookError> {
        let registry = self.registry.with(name, stage.clone());
        let mut using = vec![];
        for user in users(&self.store.catalog()) {
            let trial = self.attempt(user, &registry);
            if !trial.names.contains(name) {
                continue;
            }
            let user = trial.user.to_string();
            if let Some(problem) = trial.problem
                && self.attempt(trial.user, &self.registry).problem.is_none()
            {
                let (name, stage) = (name.to_owned(), stage.identity().to_string());
                return Err(BookError::Refused { name, stage, user, problem });
            }
            using.push(user);
        }
        Ok(using)
    }

    fn check_unused(&self, what: &str) -> Result<(), BookError> {
        let trials = self.trials();
        let by: Vec<String> = trials
            .iter()
            .filter(|trial| trial.names.contains(what))
            .map(|trial| trial.user.to_string())
            .collect();
        if by.is_empty() { Ok(()) } else { Err(BookError::InUse { what: what.to_owned(), by }) }
    }

    fn check_unused_versions(&self, name: &str, known: &StageName) -> Result<(), BookError> {
        known
            .versions
            .iter()
            .try_for_each(|known| self.check_unused(&format!("{name}{VERSION}{}", known.version)))
    }

    /// Takes away the oldest versions of a name, where there are many; not what it stands for, nor what rules name.
    fn forget_oldest(&self, name: &str, by: &str) -> Result<(), BookError> {
        let Some(known) = self.name(name).filter(|known| known.versions.len() > KEPT) else { return Ok(()) };
        let trials = self.trials();
        let is_named = |version: &str| {
            let named = format!("{name}{VERSION}{version}");
            trials.iter().any(|trial| trial.names.contains(&named))
        };
        let many = known.versions.len() - KEPT;
        let oldest = known.versions.iter().filter(|version| known.digest() != Some(&version.digest));
        for version in oldest.take(many).filter(|version| !is_named(&version.version)) {
            let removed = self.store.remove_stage(name, Some(&version.digest), event(Some(&known)), by);
            self.runtime.block_on(removed)?;
        }
        Ok(())
    }
}

fn article(kind: &str) -> &'static str {
    if kind.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" }
}

/// All rules.
fn users(catalog: &Catalog) -> impl Iterator<Item = User> + use<'_> {
    catalog.logstores().flat_map(|logstore| {
        logstore.rules.values().map(|rule| User {
            project: logstore.project.clone(),
            logstore: logstore.name.clone(),
            rule: rule.clone(),
        })
    })
}

/// What made a name stand for what it does.
fn event(known: Option<&StageName>) -> Option<i64> {
    known?.current.as_ref().map(|current| current.id)
}

fn check_pinned(name: &str, known: Option<&StageName>) -> Result<(), BookError> {
    match known {
        Some(known) if known.pinned => {
            let current = known.current.as_ref().filter(|current| current.digest.is_some());
            let version = current.map_or(BUILT_IN.into(), |current| current.version.clone());
            Err(BookError::Pinned { name: name.to_owned(), version })
        }
        _ => Ok(()),
    }
}

fn no_version(name: &str, version: &str, known: &StageName) -> BookError {
    let known = known.versions.iter().map(|known| known.version.clone()).collect();
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
