use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use logship_function::application;
use logship_function::compose::{Part, compose};
use logship_function::manifest::{Component, Manifest};
use logship_function::runtime::{Function, Limits, Runtime};
use logship_function::server::{Route, Server};
use logship_function::subscriber::subscribe;
use tokio::signal::unix::{SignalKind, signal};

use super::log::LogOptions;
use super::{EngineOptions, Failure};
use crate::engine::{default_cache, own};
use crate::link::Stages;
use crate::registry::Registry;

/// Runs stages as functions: one batch a call, by HTTP or Redis.
///
/// The application is what Spin runs as well: a spin.toml that says which component serves each stage.
#[derive(Debug, Subcommand)]
pub(super) enum FunctionCommand {
    Serve(ServeCommand),
    Compose(ComposeCommand),
}

/// Runs an application on this machine, as Spin would: each call has an instance of its own, and reaches no hosts but
/// those that are allowed.
#[derive(Debug, Args)]
pub(super) struct ServeCommand {
    /// The application.
    #[arg(value_name = "FILE", default_value = "spin.toml")]
    application: PathBuf,
    /// Where to listen; port 0: any.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// A variable of the application; also as SPIN_VARIABLE_NAME in the environment, where others can't see it.
    #[arg(long = "variable", value_name = "NAME=VALUE", value_parser = assignment)]
    variables: Vec<(String, String)>,
    /// Memory that a call may have, in MiB; its stages have theirs besides.
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(64..=65536))]
    memory: u64,
    /// Seconds that a call may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    #[command(flatten)]
    log: LogOptions,
}

/// Puts a component of an application and its dependencies together, for a host that does not: one file, which imports
/// nothing but WASI and Spin's variables.
#[derive(Debug, Args)]
pub(super) struct ComposeCommand {
    /// The application.
    #[arg(value_name = "FILE", default_value = "spin.toml")]
    application: PathBuf,
    /// The component's name in it.
    #[arg(long, value_name = "NAME", default_value = "trigger-http")]
    component: String,
    /// Where to write it.
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("say NAME=VALUE")?;
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
    /// The value of a variable, where somebody gives one.
    fn given(&self, name: &str) -> Option<String> {
        let given = self.variables.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.clone());
        given.or_else(|| std::env::var(format!("SPIN_VARIABLE_{}", name.to_uppercase())).ok())
    }

    fn run(self, engine: &EngineOptions) -> Result<(), Failure> {
        self.log.begin()?;
        let manifest = Manifest::read(&self.application)?;
        let cache = engine.cache.clone().or_else(default_cache);
        if let Some(cache) = &cache {
            own(cache)
                .map_err(|error| format!("the cache of compiled stages, {}: {error:#}", cache.display()))?;
        }
        let stages = Stages::new(Registry::new(engine.engine()?));
        let functions = self.functions(&manifest, &stages, cache.as_deref())?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            let (mut term, mut interrupt) =
                (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
            let http = &manifest.trigger.http;
            let routes =
                http.iter().map(|trigger| Route::new(&trigger.route, functions[&trigger.component].clone()));
            let server = Server::bind(self.listen, routes.collect()).await;
            let server = server.map_err(|error| format!("can't listen on {}: {error}", self.listen))?;
            let address = server.address()?;
            for trigger in &manifest.trigger.redis {
                let (address, channel) = manifest.redis(trigger, |name| self.given(name))?;
                // Its address may have a password in it.
                let client =
                    redis::Client::open(address).map_err(|error| format!("the address of Redis: {error}"))?;
                let function = functions[&trigger.component].clone();
                tokio::spawn(async move { subscribe(client, &channel, &function).await });
            }
            for trigger in http {
                println!("http://{address}{} -> {}", trigger.route, trigger.component);
            }
            std::io::stdout().flush()?;
            tokio::select! {
                () = server.run() => {}
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
            Ok(())
        })
    }

    /// The components that triggers call, ready.
    fn functions(
        &self,
        manifest: &Manifest,
        stages: &Stages,
        cache: Option<&Path>,
    ) -> Result<BTreeMap<String, Function>, Failure> {
        let limits = Limits { memory: (self.memory as usize) << 20, time: Duration::from_secs(self.timeout) };
        let runtime = Runtime::new(limits, cache)?;
        let called = manifest.called();
        let ready = called.map(|(name, component)| {
            let variables = manifest.variables(component, |name| self.given(name))?;
            let allowed = manifest.outbound(component, |name| self.given(name))?;
            let (socket, parts) = parts(manifest, component)?;
            let function = application::function(&runtime, &socket, parts, stages, variables, allowed)?;
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
                "{} has no component {:?}; it has {}",
                self.application.display(),
                self.component,
                known.join(", ")
            )
        })?;
        let (socket, parts) = parts(&manifest, component)?;
        let whole = compose(&socket, &parts, |_| false)?;
        super::output::write(&self.output, &whole)
            .map_err(|error| format!("{}: {error}", self.output.display()))?;
        println!("{}: {} KiB", self.output.display(), whole.len() / 1024);
        Ok(())
    }
}

/// A component, and what serves its imports.
fn parts(manifest: &Manifest, component: &Component) -> Result<(Part, Vec<(String, Part)>), Failure> {
    let part = |path: &Path| Part::read(&manifest.file(path));
    let dependencies = component.dependencies.iter();
    let parts = dependencies.map(|(import, dependency)| Ok((import.clone(), part(&dependency.path)?)));
    Ok((part(&component.source)?, parts.collect::<Result<_, Failure>>()?))
}
