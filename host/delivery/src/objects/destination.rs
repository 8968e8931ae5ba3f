//! Destinations of rules: where their stages run, and where their objects go.

use std::sync::{Arc, PoisonError};

use logship_config::destination::DestinationConfig;
use logship_config::rule::{Rule, RuleError, Store};
use logship_sink::error::SinkError;
use logship_sink::object::{BucketLocation, ObjectSink};
use logship_sink::open;
use logship_sink::unknown_store::UnknownStore;

use crate::engine::error::PlanError;
use crate::executor::{Executor, Fleet, Function};
use crate::objects::own_destination::OwnDestination;
use crate::objects::rule::Objects;

/// Where a rule's stages run, and where its objects go.
pub(super) struct Destination {
    pub(super) executor: Executor,
    pub(super) sink: Box<dyn ObjectSink>,
}

impl Objects {
    /// Returns true if the destination of a rule is a function.
    pub(super) fn calls_function(&self, rule: &Rule) -> bool {
        let Store::Named(name) = &rule.destination else { return false };
        matches!(self.destinations.get(name), Some(DestinationConfig::Function(_)))
    }

    /// Opens the destination of a rule of a project.
    pub(super) fn destination(&self, project: &str, rule: &Rule) -> Result<Destination, PlanError> {
        let (config, is_inline) = match &rule.destination {
            Store::Own(_) if !self.allow_own => {
                let problem = "rules can't define destinations here (allow-own-destinations): name one of the service's settings";
                return Err(invalid_destination(problem));
            }
            Store::Own(config) => (&**config, true),
            Store::Named(name) => {
                let config = self.named(name, Some(project))?;
                self.check_scope(name, project, rule)?;
                (config, false)
            }
        };
        let DestinationConfig::Function(function) = config else {
            let sink = self.bucket(rule, config, is_inline)?;
            return Ok(Destination { executor: Executor::InProcess, sink });
        };
        if is_inline {
            return Err(invalid_destination(
                "a rule can't define a function inline: name one of the service's settings",
            ));
        }
        if !rule.transform.is_empty() {
            // Silently ignored transforms would leak fields that the user meant to drop or mask.
            let problem = "functions get untransformed logs: remove `transform`, or use a destination that is not a function";
            return Err(RuleError::field("transform", problem).into());
        }
        if !rule.partition_by.is_created() {
            let problem = format!(
                "a function makes one object per task and can't partition by {}: remove `partition_by`, or use a destination that is not a function",
                rule.partition_by
            );
            return Err(RuleError::field("partition_by", problem).into());
        }
        let store = match &function.store {
            Some(name) => {
                let store = self.named(name, None)?;
                self.check_scope(name, project, rule)?;
                self.bucket(rule, store, false)?
            }
            None if !rule.bucket.is_empty() => {
                let problem = "is not used, since the function chooses it: remove `bucket`, or set the function's `store` to the bucket's destination";
                return Err(RuleError::field("bucket", problem).into());
            }
            None if !rule.role.is_empty() => {
                return Err(RuleError::field("role", "is not used by functions: remove it").into());
            }
            None => {
                let url = function.endpoint(&rule.name).map_err(SinkError::Settings)?;
                Box::new(UnknownStore { function: url.to_string() })
            }
        };
        let has_store = function.store.is_some();
        let fleet = self.fleet(&rule.destination);
        let function = Function::new(function, &rule.name, has_store, fleet, self.runtime.clone())?;
        Ok(Destination { executor: Executor::Function(Box::new(function)), sink: store })
    }

    /// Returns the state that all rules of a destination share.
    fn fleet(&self, destination: &Store) -> Arc<Fleet> {
        let Store::Named(name) = destination else { return Arc::default() };
        let mut fleets = self.fleets.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(fleets.entry(name.clone()).or_default())
    }

    /// Looks up a destination in the service's settings. `project` is one that may not know the names of others.
    fn named(&self, name: &str, project: Option<&str>) -> Result<&DestinationConfig, PlanError> {
        let is_open = |name: &str| {
            project
                .is_none_or(|project| self.scopes.get(name).is_none_or(|scope| scope.allows_project(project)))
        };
        self.destinations.get(name).filter(|_| is_open(name)).ok_or_else(|| {
            let known = self.destinations.keys().map(String::as_str).filter(|name| is_open(name));
            invalid_destination(format!(
                "the service's settings define no destination {name:?} for this project; known destinations: {}",
                known.collect::<Vec<_>>().join(", ")
            ))
        })
    }

    /// Fails unless the scope of a destination includes a rule.
    fn check_scope(&self, name: &str, project: &str, rule: &Rule) -> Result<(), PlanError> {
        let Some(scope) = self.scopes.get(name) else { return Ok(()) };
        let refused = |field, value: &str| {
            let problem = format!(
                "{value:?} is outside of the scope of destination {name:?} for project {project}: ask the operator (scopes.{name})"
            );
            Err(RuleError::field(field, problem).into())
        };
        if !scope.allows_project(project) {
            return refused("destination", name);
        }
        if !scope.allows_bucket(project, &rule.bucket) {
            return refused("bucket", &rule.bucket);
        }
        if !scope.allows_prefix(project, &rule.prefix) {
            return refused("prefix", &rule.prefix);
        }
        if !scope.allows_role(project, &rule.role) {
            return refused("role", &rule.role);
        }
        Ok(())
    }

    /// Opens the rule's bucket at a destination.
    fn bucket(
        &self,
        rule: &Rule,
        config: &DestinationConfig,
        is_inline: bool,
    ) -> Result<Box<dyn ObjectSink>, PlanError> {
        if rule.bucket.is_empty() {
            return Err(RuleError::field("bucket", "is missing").into());
        }
        if is_inline {
            check_inline_destination(config).map_err(invalid_destination)?;
        }
        let location = BucketLocation {
            bucket: &rule.bucket,
            role: &rule.role,
            spool: &self.spool,
            runtime: self.runtime.clone(),
            must_exist: true,
        };
        let sink = open::object_sink(config, &location).map_err(|error| match error {
            SinkError::RuleField { field, problem } => RuleError::field(field, problem).into(),
            error => PlanError::from(error),
        })?;
        Ok(if is_inline { Box::new(OwnDestination(sink)) } else { sink })
    }
}

fn invalid_destination(problem: impl std::fmt::Display) -> PlanError {
    RuleError::field("destination", problem).into()
}

/// Checks a destination that a rule defines inline. It must have its own credentials, never those of the service.
fn check_inline_destination(config: &DestinationConfig) -> Result<(), String> {
    let (DestinationConfig::S3(remote) | DestinationConfig::Oss(remote)) = config else {
        return Err("a rule can't define a directory inline: name one of the service's settings".into());
    };
    let has_id = remote.access_key_id.as_ref().is_some_and(|id| !id.is_empty());
    let has_secret = remote.access_key_secret.as_ref().is_some_and(|secret| !secret.is_empty());
    if !has_id || !has_secret {
        return Err("an inline destination needs credentials: set access-key-id and access-key-secret".into());
    }
    if remote.ca.is_some() {
        return Err(
            "ca is a file of the service and not allowed inline: use a destination of the service's settings"
                .into(),
        );
    }
    match remote.masked_secret() {
        Some(secret) => Err(format!("{secret} is masked: set it again")),
        None => Ok(()),
    }
}

/// True if both are the same store, possibly with other credentials.
pub(super) fn is_same_store(one: &Store, other: &Store) -> bool {
    use DestinationConfig::{Oss, S3};
    match (one, other) {
        (Store::Named(one), Store::Named(other)) => one == other,
        (Store::Own(one), Store::Own(other)) => {
            matches!((&**one, &**other), (S3(one), S3(other)) | (Oss(one), Oss(other)) if one.endpoint == other.endpoint)
        }
        _ => false,
    }
}
