use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use logship_listener::address;
use logship_spin_runtime::application;
use logship_spin_runtime::compose::{ComponentFile, compose};
use logship_spin_runtime::manifest::{Component, Manifest};
use logship_spin_runtime::output::Output;
use logship_spin_runtime::runtime::{Function, Limits, Runtime};
use logship_spin_runtime::server::{Route, Server};
use logship_spin_runtime::subscriber::subscribe;

use super::log::LogOptions;
use super::signals::EndSignals;
use super::{EngineOptions, Failure, tokio_runtime};
use crate::function_stages::Stages;
use crate::log_queue::{LogQueue, Stream};
use crate::print::outln;
use logship_registry::Registry;
use logship_runtime::engine::default_cache;

/// Runs stages as functions: one batch per call, over HTTP or Redis.
///
/// The application is a Spin application: a spin.toml that assigns a component to each stage.
#[derive(Debug, Subcommand)]
pub(super) enum FunctionCommand {
    Serve(ServeCommand),
    Compose(ComposeCommand),
}

/// Runs an application on this machine like Spin: each call has its own instance and reaches only allowed hosts.
#[derive(Debug, Args)]
pub(super) struct ServeCommand {
    /// The application's manifest.
    #[arg(value_name = "FILE", default_value = "spin.toml")]
    application: PathBuf,
    /// Listens on this address; port 0 picks a free port.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// Rejects calls without this token, which callers send as `Authorization: Bearer TOKEN`. Required to listen
    /// beyond this machine, unless the components have a variable `token`.
    #[arg(long, value_name = "TOKEN", env = "LOGSHIP_FUNCTION_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Sets a variable of the application. For secrets, prefer SPIN_VARIABLE_NAME in the environment. Repeatable.
    #[arg(long = "variable", value_name = "NAME=VALUE", value_parser = assignment)]
    variables: Vec<(String, String)>,
    /// Limits the memory of a call, in MiB, without its stages.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(64..=65536))]
    memory: u64,
    /// Limits a call, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    #[command(flatten)]
    log: LogOptions,
}

/// Composes a component of an application with its dependencies into one file, for hosts that can't. The file
/// imports only WASI and Spin's variables.
#[derive(Debug, Args)]
pub(super) struct ComposeCommand {
    /// The application's manifest.
    #[arg(value_name = "FILE", default_value = "spin.toml")]
    application: PathBuf,
    /// The component's name in the application.
    #[arg(long, value_name = "NAME", default_value = "trigger-http")]
    component: String,
    /// Writes the component to this file.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("use NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl FunctionCommand {
    pub(super) fn run(self, engine: &EngineOptions) -> Result<(), Failure> {
        match self {
            Self::Serve(command) => command.run(engine),
            Self::Compose(command) => command.run(),
        }
    }
}

impl ServeCommand {
    /// Returns the value of a variable from the options or the environment.
    fn variable(&self, name: &str) -> Option<String> {
        let option = self.variables.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.clone());
        option.or_else(|| std::env::var(format!("SPIN_VARIABLE_{}", name.to_uppercase())).ok())
    }

    fn run(self, engine: &EngineOptions) -> Result<(), Failure> {
        self.log.init()?;
        let runtime = tokio_runtime()?;
        let mut signals = runtime.block_on(async { EndSignals::catch() })?;
        let manifest = Manifest::read(&self.application)?;
        let cache = engine.cache.clone().or_else(default_cache);
        let stages = Stages::new(Registry::new(engine.engine()?));
        self.check_exposure(&manifest)?;
        let limits =
            Limits { memory: (self.memory as usize) << 20, timeout: Duration::from_secs(self.timeout) };
        let (stdout, stderr) = (LogQueue::start(Stream::Stdout)?, LogQueue::start(Stream::Stderr)?);
        let output = |queue: LogQueue| Output::new(move |bytes| queue.push(bytes.to_vec()));
        let calls = Runtime::new(limits, cache.as_deref())?
            .with_compile_process(engine.compile_process()?)
            .with_output(output(stdout), output(stderr));
        let functions = self.functions(&manifest, &stages, &calls)?;
        runtime.block_on(async {
            let http = &manifest.trigger.http;
            let routes =
                http.iter().map(|trigger| Route::new(&trigger.route, functions[&trigger.component].clone()));
            let server = Server::bind(self.listen, routes.collect(), self.token()).await;
            let server = server.map_err(|error| format!("can't listen on {}: {error}", self.listen))?;
            let address = server.address()?;
            for trigger in &manifest.trigger.redis {
                let (address, channel) = manifest.redis(trigger, |name| self.variable(name))?;
                // Omits the address from the error, because it may contain a password.
                let client = redis::Client::open(address)
                    .map_err(|error| format!("invalid Redis address: {error}"))?;
                let function = functions[&trigger.component].clone();
                tokio::spawn(async move { subscribe(client, &channel, &function).await });
            }
            for trigger in http {
                outln!("http://{address}{} -> {}", trigger.route, trigger.component);
            }
            server.run(async { _ = signals.next().await }).await;
            Ok(())
        })
    }

    /// Returns the token of callers.
    fn token(&self) -> Option<String> {
        self.token.clone().filter(|token| !token.is_empty())
    }

    /// Fails if others than this machine could call a function without a token.
    fn check_exposure(&self, manifest: &Manifest) -> Result<(), Failure> {
        if address::is_local(self.listen.ip()) || self.token().is_some() {
            return Ok(());
        }
        for trigger in &manifest.trigger.http {
            let Some(component) = manifest.component.get(&trigger.component) else { continue };
            let variables = manifest.variables(component, |name| self.variable(name))?;
            if variables.get("token").is_none_or(String::is_empty) {
                let problem = format!(
                    "{} is reachable from other machines, and anybody could call {}: set a token with --token or LOGSHIP_FUNCTION_TOKEN, or listen on 127.0.0.1",
                    self.listen, trigger.component
                );
                return Err(problem.into());
            }
        }
        Ok(())
    }

    /// Prepares the components that triggers call.
    fn functions(
        &self,
        manifest: &Manifest,
        stages: &Stages,
        runtime: &Runtime,
    ) -> Result<BTreeMap<String, Function>, Failure> {
        let called = manifest.triggered_components();
        let ready = called.map(|(name, component)| {
            let variables = manifest.variables(component, |name| self.variable(name))?;
            let allowed = manifest.allowed_hosts(component, |name| self.variable(name))?;
            let (socket, parts) = load_parts(manifest, component)?;
            let function = application::function(runtime, &socket, parts, stages, variables, allowed)?;
            Ok((name.to_owned(), function))
        });
        ready.collect()
    }
}

impl ComposeCommand {
    fn run(&self) -> Result<(), Failure> {
        let manifest = Manifest::read(&self.application)?;
        let component = manifest.component.get(&self.component).ok_or_else(|| {
            let known: Vec<_> = manifest.component.keys().map(String::as_str).collect();
            format!(
                "{} has no component {:?}; its components: {}",
                self.application.display(),
                self.component,
                known.join(", ")
            )
        })?;
        let (socket, parts) = load_parts(&manifest, component)?;
        let composed = compose(&socket, &parts, |_| false)?;
        super::output::write(&self.output, &composed)
            .map_err(|error| format!("{}: {error}", self.output.display()))?;
        outln!("{}: {} KiB", self.output.display(), composed.len() / 1024);
        Ok(())
    }
}

/// Returns a component, and the components of its imports.
fn load_parts(
    manifest: &Manifest,
    component: &Component,
) -> Result<(ComponentFile, Vec<(String, ComponentFile)>), Failure> {
    let part = |path: &Path| ComponentFile::read(&manifest.resolve(path));
    let dependencies = component.dependencies.iter();
    let parts = dependencies.map(|(import, dependency)| Ok((import.clone(), part(&dependency.path)?)));
    Ok((part(&component.source)?, parts.collect::<Result<_, Failure>>()?))
}
