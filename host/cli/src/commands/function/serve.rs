//! `logship function serve`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use logship_listener::address;
use logship_registry::Registry;
use logship_runtime::engine::default_cache;
use logship_spin_runtime::application;
use logship_spin_runtime::manifest::Manifest;
use logship_spin_runtime::output::Output;
use logship_spin_runtime::runtime::{Function, Runtime};
use logship_spin_runtime::server::{Route, Server};
use logship_spin_runtime::subscriber::subscribe;

use super::load_parts;
use super::reuse_options::ReuseOptions;
use super::variables::VariableOptions;
use crate::commands::log::LogOptions;
use crate::commands::signals::EndSignals;
use crate::commands::{EngineOptions, Failure, tokio_runtime};
use crate::function_stages::Stages;
use crate::log_queue::{LogQueue, Stream};
use crate::print::outln;

/// Runs an application on this machine like Spin: instances are reused, and reach only allowed hosts.
#[derive(Debug, Args)]
pub(in crate::commands) struct ServeCommand {
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
    #[command(flatten)]
    variables: VariableOptions,
    #[command(flatten)]
    limits: ReuseOptions,
    /// Sends responses as Spin does: while the function writes them, and without TCP_NODELAY. For measurements.
    #[arg(long, hide = true)]
    send_like_spin: bool,
    #[command(flatten)]
    log: LogOptions,
}

impl ServeCommand {
    pub(super) fn run(self, engine: &EngineOptions) -> Result<(), Failure> {
        self.log.init()?;
        let runtime = tokio_runtime()?;
        let mut signals = runtime.block_on(async { EndSignals::catch() })?;
        let manifest = Manifest::read(&self.application)?;
        let cache = engine.cache.clone().or_else(default_cache);
        let stages = Stages::new(Registry::new(engine.engine()?));
        self.check_exposure(&manifest)?;
        let (stdout, stderr) = (LogQueue::start(Stream::Stdout)?, LogQueue::start(Stream::Stderr)?);
        let output = |queue: LogQueue| Output::new(move |bytes| queue.push(bytes.to_vec()));
        let calls = Runtime::new(self.limits.limits(), cache.as_deref())?
            .with_compile_process(engine.compile_process()?)
            .with_output(output(stdout), output(stderr));
        let functions = self.functions(&manifest, &stages, &calls)?;
        runtime.block_on(async {
            let http = &manifest.trigger.http;
            let routes =
                http.iter().map(|trigger| Route::new(&trigger.route, functions[&trigger.component].clone()));
            let server = Server::bind(self.listen, routes.collect(), self.token()).await;
            let server = server.map_err(|error| format!("can't listen on {}: {error}", self.listen))?;
            let server = if self.send_like_spin { server.sending_like_spin() } else { server };
            let address = server.address()?;
            for trigger in &manifest.trigger.redis {
                let (address, channel) = manifest.redis(trigger, |name| self.variables.value(name))?;
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
            let variables = manifest.variables(component, |name| self.variables.value(name))?;
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
            let variables = manifest.variables(component, |name| self.variables.value(name))?;
            let allowed = manifest.allowed_hosts(component, |name| self.variables.value(name))?;
            let (socket, parts) = load_parts(manifest, component)?;
            let function = application::function(runtime, &socket, parts, stages, variables, allowed)?;
            Ok((name.to_owned(), function))
        });
        ready.collect()
    }
}
