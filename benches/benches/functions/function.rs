//! The function, in this process.

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::path::Path;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use logship::function_stages::Stages;
use logship_registry::Registry;
use logship_runtime::engine::{Engine, Limits as StageLimits};
use logship_spin_runtime::application;
use logship_spin_runtime::compose::ComponentFile;
use logship_spin_runtime::manifest::Manifest;
use logship_spin_runtime::runtime::{Function, Limits, Runtime};
use sha2::{Digest as _, Sha256};

use crate::TASK;
use crate::input::InputFormat;

/// Loads an application's function like the program.
pub(crate) fn load(application: &Path, cache: &Path) -> Function {
    let (variables, socket, parts) = parts(application);
    fs::create_dir_all(cache).expect("a folder");
    let runtime = Runtime::new(Limits::default(), Some(cache)).expect("a runtime");
    let engine = Engine::new(StageLimits::default(), Some(&cache.join("stages"))).expect("an engine");
    let stages = Stages::new(Registry::new(engine));
    application::function(&runtime, &socket, parts, &stages, variables, vec![]).expect("a function")
}

pub(crate) type Variables = BTreeMap<String, String>;

pub(crate) fn parts(application: &Path) -> (Variables, ComponentFile, Vec<(String, ComponentFile)>) {
    let manifest = Manifest::read(application).expect("an application");
    let component = &manifest.component["trigger-http"];
    let part = |path: &Path| ComponentFile::read(&manifest.resolve(path)).expect("a component");
    let dependencies = component.dependencies.iter();
    let parts = dependencies.map(|(import, dependency)| (import.clone(), part(&dependency.path))).collect();
    (manifest.variables(component, |_| None).expect("variables"), part(&component.source), parts)
}

/// Calls a function, and returns the object.
pub(crate) fn call(
    runtime: &tokio::runtime::Runtime,
    function: &Function,
    body: &Bytes,
    format: InputFormat,
) -> Bytes {
    let request = http::Request::post("http://localhost/v1/ship/lake")
        .header("content-type", format.media_type())
        .header("content-length", body.len())
        .header("x-logship-task", format!("{}_{}", TASK.created, TASK.number))
        .header("x-logship-digest", "xxh3")
        .body(Full::new(body.clone()).map_err(|never| match never {}).boxed_unsync())
        .expect("a request");
    let response = runtime.block_on(function.handle_request(request)).expect("a response");
    assert_eq!(response.status(), 200);
    let object = runtime.block_on(response.into_body().collect()).expect("a body").to_bytes();
    // A service hashes the objects of function calls too.
    black_box(Sha256::digest(&object));
    object
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
