use std::fmt;
use std::sync::Arc;

use super::{Identity, Kind, RendererDescription as Description, Request, StageError, checked_identity};
use crate::bindings::renderer::exports::logship::object_path::renderer::Error;
use crate::bindings::renderer::{Renderer, RendererPre};
use crate::engine::Engine;
use crate::guest::Guest;
use crate::instance::Instance;
use crate::metrics::StageMetrics;

/// A renderer, ready to be instantiated.
pub struct RendererStage {
    engine: Engine,
    identity: Identity,
    description: Description,
    pre: RendererPre<Guest>,
    metrics: Arc<StageMetrics>,
}

impl RendererStage {
    pub(super) fn new(
        engine: &Engine,
        origin: Identity,
        pre: RendererPre<Guest>,
    ) -> Result<Self, StageError> {
        let mut instance = Instance::new(engine, &origin, &Arc::default(), |store| pre.instantiate(store))?;
        let description =
            instance.call(|store, renderer| renderer.logship_object_path_renderer().call_describe(store))?;
        let Description { name, version, config_schema } = &description;
        let identity = checked_identity(&origin, name, version, config_schema)?;
        let metrics = engine.metrics_of(&identity, Kind::Renderer);
        Ok(Self { engine: engine.clone(), identity, description, pre, metrics })
    }

    /// Returns the identity of the component.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns the stage's description of itself.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Renders the key of an object and checks it, so that no renderer can write outside its bucket.
    ///
    /// # Errors
    /// [`StageError::Config`], [`StageError::Key`], or any error of a call.
    pub fn render(&self, config: &str, request: &Request) -> Result<String, StageError> {
        self.instance()?.render(config, request)
    }

    /// Takes an instance from the pool.
    pub fn instance(&self) -> Result<RendererInstance, StageError> {
        let instance =
            Instance::new(&self.engine, &self.identity, &self.metrics, |store| self.pre.instantiate(store));
        instance.map(RendererInstance)
    }
}

impl fmt::Debug for RendererStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.description.fmt(f)
    }
}

/// An instance of a renderer. It renders any number of keys. After a trap it is unusable.
pub struct RendererInstance(Instance<Renderer>);

impl RendererInstance {
    /// Returns the description of the stage.
    ///
    /// # Errors
    /// If the stage traps or exceeds a limit.
    pub fn describe(&mut self) -> Result<Description, StageError> {
        self.0.call(|store, renderer| renderer.logship_object_path_renderer().call_describe(store))
    }

    /// Like [`RendererStage::render`].
    pub fn render(&mut self, config: &str, request: &Request) -> Result<String, StageError> {
        let stage = self.0.stage().clone();
        let key = self
            .0
            .call(|store, renderer| {
                renderer.logship_object_path_renderer().call_render(store, config, request)
            })?
            .map_err(|Error::InvalidConfig(problem)| {
                let (path, reason) = (problem.path, problem.reason);
                self.0.record_failure(StageError::Config { stage: stage.clone(), path, reason })
            })?;
        match problem(&key) {
            None => Ok(key),
            Some(problem) => Err(self.0.record_failure(StageError::Key { stage, key, problem })),
        }
    }

    /// Returns the current size of the linear memory, in bytes.
    pub fn memory(&self) -> usize {
        self.0.memory()
    }
}

/// Returns the violation of the contract by a key, if any.
fn problem(key: &str) -> Option<&'static str> {
    if key.is_empty() || key.len() > 1023 {
        return Some("is not 1 to 1,023 bytes long");
    }
    if key.starts_with('\\') || key.chars().any(char::is_control) {
        return Some("begins with a backslash or has a control character");
    }
    let climbs = |level: &str| matches!(level, "" | "." | "..");
    key.split('/').any(climbs).then_some("has an empty level, `.` or `..`")
}

#[cfg(test)]
mod tests {
    use super::problem;

    #[test]
    fn rejects_keys_outside_the_bucket() {
        let long = "x".repeat(1024);
        for key in ["", "/a", "a//b", "a/", "../a", "a/../b", "./a", "a\nb", "a\0", "\\a", &long] {
            assert!(problem(key).is_some(), "{key:?}");
        }
        for key in ["a", "a/b_1.csv", "ds=20170120/19_1_2", "...", "é", &long[1..]] {
            assert_eq!(problem(key), None, "{key:?}");
        }
    }
}
