//! The `logship` program, with one file per command.

mod audit;
mod backup;
mod bar;
mod compile_component;
mod compose;
mod config;
mod connect;
mod consume;
mod dead_letter;
mod deletion;
mod engine_options;
mod fsck;
mod function;
mod group;
mod guard_options;
mod input_options;
mod job;
mod key;
mod log;
mod log_fields;
mod logstore;
mod output;
mod project;
mod put;
mod put_stream;
mod receiver_options;
#[cfg(test)]
mod reference;
mod replay;
mod resend_rows;
mod rule;
mod rule_options;
mod serve;
mod settings;
mod ship;
mod ship_columns;
mod signals;
mod source;
mod stage;
mod store;
mod tail;
mod task;
mod transform_options;
mod verify;
mod verify_store;

use std::io::ErrorKind;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::allocator;
use crate::print::{self, errln};
use engine_options::EngineOptions;
use logship_runtime::wasi::WasiAllowlist;

/// The error of a failed command.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Ships logs through WebAssembly stages.
#[derive(Debug, Parser)]
#[command(name = "logship", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    engine: EngineOptions,
}

#[derive(Debug, Subcommand)]
enum Command {
    Ship(Box<ship::ShipCommand>),
    Serve(Box<serve::ServeCommand>),
    Put(Box<put::PutCommand>),
    Consume(Box<consume::ConsumeCommand>),
    #[command(name = "deadletter")]
    DeadLetter(Box<dead_letter::DeadLetterCommand>),
    Tail(Box<tail::TailCommand>),
    Logstore(Box<logstore::LogstoreCommand>),
    Project(Box<project::ProjectCommand>),
    Rule(Box<rule::RuleCommand>),
    Task(Box<task::TaskCommand>),
    Job(Box<job::JobCommand>),
    Verify(Box<verify::VerifyCommand>),
    Fsck(fsck::FsckCommand),
    Source(Box<source::SourceCommand>),
    Group(Box<group::GroupCommand>),
    Key(Box<key::KeyCommand>),
    Audit(Box<audit::AuditCommand>),
    #[command(subcommand)]
    Stage(stage::StageCommand),
    Backup(Box<backup::BackupCommand>),
    Restore(backup::RestoreCommand),
    Store(Box<store::StoreCommand>),
    Config(config::ConfigCommand),
    Compose(Box<compose::ComposeCommand>),
    #[command(subcommand)]
    Function(function::FunctionCommand),
    #[command(hide = true)]
    CompileComponent(compile_component::CompileComponentCommand),
}

/// The imports that a component may have.
#[derive(Debug, Args)]
struct WasiOption {
    /// Lets the component import an empty WASI: no files, network, environment or input, frozen clocks, and the same
    /// random numbers in every call.
    #[arg(long)]
    allow_wasi: bool,
}

impl WasiOption {
    fn allowlist(&self) -> WasiAllowlist {
        if self.allow_wasi { WasiAllowlist::All } else { WasiAllowlist::None }
    }
}

/// Exits when standard output is closed (`logship task list | head`). Commands that serve or ship don't call this.
fn restore_sigpipe() {
    // SAFETY: restores a signal's default action before other threads exist.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Creates the async runtime of a command that runs for long. It gives memory back when it is idle.
fn tokio_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    allocator::shrink_when_idle();
    tokio::runtime::Builder::new_multi_thread().enable_all().on_thread_park(allocator::shrink_heap).build()
}

impl Command {
    /// True for commands that serve or ship. They go on when nobody reads their output.
    fn delivers(&self) -> bool {
        matches!(self, Self::Ship(_) | Self::Put(_) | Self::Serve(_) | Self::Consume(_) | Self::Function(_))
    }
}

/// Runs the program with the process's arguments.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let delivers = cli.command.delivers();
    if !delivers {
        restore_sigpipe();
    }
    let result = run_command(cli).and_then(|()| check_output(delivers));
    if let Err(error) = &result {
        errln!("error: {error}");
    }
    print::flush_log();
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Checks that the output of a successful command was written. Delivered logs stay delivered without a report: an error
/// would make scripts ship them again.
fn check_output(delivers: bool) -> Result<(), Failure> {
    match print::finish_out() {
        Ok(()) => {}
        Err(error) if !delivers => return Err(format!("can't write to standard output: {error}").into()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        Err(error) => errln!("warning: the report is incomplete: can't write to standard output: {error}"),
    }
    Ok(())
}

fn run_command(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Ship(command) => command.run(&cli.engine),
        Command::Serve(command) => command.run(&cli.engine),
        Command::Put(command) => command.run(),
        Command::Consume(command) => command.run(&cli.engine),
        Command::DeadLetter(command) => command.run(),
        Command::Tail(command) => command.run(),
        Command::Logstore(command) => command.run(),
        Command::Project(command) => command.run(),
        Command::Rule(command) => command.run(),
        Command::Task(command) => command.run(&cli.engine),
        Command::Job(command) => command.run(),
        Command::Verify(command) => command.run(),
        Command::Fsck(command) => command.run(),
        Command::Source(command) => command.run(),
        Command::Group(command) => command.run(),
        Command::Key(command) => command.run(),
        Command::Audit(command) => command.run(),
        Command::Stage(command) => command.run(&cli.engine),
        Command::Backup(command) => command.run(),
        Command::Restore(command) => command.run(),
        Command::Store(command) => command.run(),
        Command::Config(command) => command.run(),
        Command::Compose(command) => command.run(&cli.engine),
        Command::Function(command) => command.run(&cli.engine),
        Command::CompileComponent(command) => command.run(),
    }
}
