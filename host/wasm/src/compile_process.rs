//! Compiles and checks untrusted components in a child process.
//!
//! The compiler's memory and time depend on the component, and a bug of the compiler may depend on it, too. The child
//! has limits of both, none of the parent's environment, and can't write to files. It reads the component from
//! standard input and writes the code to standard output.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, setrlimit};
use wasmtime::{Config, Engine};

/// Exit code of the child when the component is invalid.
const INVALID: u8 = 3;

/// Exit code of the child when it failed otherwise.
const FAILED: u8 = 1;

/// Maximum size of compiled code.
const MAX_CODE_BYTES: u64 = 1 << 30;

/// Maximum size of the child's error message.
const MAX_ERROR_BYTES: u64 = 64 << 10;

/// Address space that the child needs besides the memory of the compiler: the program, stacks, reserved pages.
const BASE_BYTES: u64 = 512 << 20;

/// Threads of the compiler in the child. More of them need more memory.
const THREADS: usize = 4;

/// The parent waits this many times the limit of CPU time, as other processes need the CPU, too.
const WALL_FACTOR: u32 = 5;

/// Limits of the compilation of one component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Memory, in bytes.
    pub memory: u64,
    /// CPU time.
    pub time: Duration,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { memory: 1 << 30, time: Duration::from_secs(60) }
    }
}

/// A component that was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It is not a valid component.
    #[error("{0}")]
    Invalid(String),
    /// Compilation takes too much memory.
    #[error(
        "compiling it takes more than {0} MiB of memory, which no ordinary stage does. If you trust it, raise --compile-memory"
    )]
    Memory(u64),
    /// Compilation takes too long.
    #[error(
        "compiling it takes more than {0} s, which no ordinary stage does. If you trust it, raise --compile-time"
    )]
    Time(u64),
    /// The compiler failed.
    #[error("the compiler failed ({status}): {message}")]
    Failed {
        /// The exit status of the child.
        status: ExitStatus,
        /// The last line of the child's error output.
        message: String,
    },
    /// The child process can't be run.
    #[error("can't run the compiler as a process: {0}")]
    Io(#[from] io::Error),
}

/// The command that runs [`run_child`], and its limits.
#[derive(Debug, Clone)]
pub struct CompileProcess {
    program: PathBuf,
    arguments: Vec<OsString>,
    limits: CompileLimits,
}

impl CompileProcess {
    /// Creates a compiler that runs this program again, with `arguments`, the limits and the name of a profile.
    ///
    /// # Errors
    /// If the path of this program is unknown.
    pub fn this_program(
        arguments: impl IntoIterator<Item = OsString>,
        limits: CompileLimits,
    ) -> io::Result<Self> {
        // The link leads to the running program even after an upgrade replaced its file.
        let link = PathBuf::from("/proc/self/exe");
        let program = if link.exists() { link } else { std::env::current_exe()? };
        Ok(Self { program, arguments: arguments.into_iter().collect(), limits })
    }

    /// Compiles a component with the settings of a profile. One component at a time, so that the limit of memory
    /// holds for the service.
    ///
    /// # Errors
    /// If the component is invalid, or exceeds a limit.
    pub fn compile(&self, profile: &str, component: &[u8]) -> Result<Vec<u8>, ProcessError> {
        static TURN: Mutex<()> = Mutex::new(());
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut child = self.spawn(profile)?;
        let deadline = Instant::now() + self.limits.time * WALL_FACTOR;
        let (mut stdin, stdout, stderr) = (
            child.stdin.take().expect("piped"),
            child.stdout.take().expect("piped"),
            child.stderr.take().expect("piped"),
        );
        thread::scope(|scope| {
            // A child that failed closes its input early; its exit status says why.
            scope.spawn(move || stdin.write_all(component).is_ok());
            let code = scope.spawn(move || read(stdout, MAX_CODE_BYTES));
            let message = scope.spawn(move || read(stderr, MAX_ERROR_BYTES));
            let status = wait(&mut child, deadline)?;
            let code = code.join().expect("does not panic")?;
            let message = message.join().expect("does not panic")?;
            self.result(status, code, &String::from_utf8_lossy(&message))
        })
    }

    fn spawn(&self, profile: &str) -> io::Result<Child> {
        Command::new(&self.program)
            .args(&self.arguments)
            .args([profile, &self.limits.memory.to_string(), &self.limits.time.as_secs().to_string()])
            // No secret of the service.
            .env_clear()
            .env("RAYON_NUM_THREADS", THREADS.to_string())
            // The allocator must not reserve more than the limit.
            .env("MIMALLOC_ARENA_RESERVE", "65536")
            .env("MIMALLOC_ARENA_EAGER_COMMIT", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }

    fn result(&self, status: ExitStatus, code: Vec<u8>, message: &str) -> Result<Vec<u8>, ProcessError> {
        if status.success() {
            return Ok(code);
        }
        let message = message.trim();
        if status.code() == Some(INVALID.into()) {
            return Err(ProcessError::Invalid(message.to_owned()));
        }
        match status.signal().and_then(rustix::process::Signal::from_named_raw) {
            Some(rustix::process::Signal::XCPU | rustix::process::Signal::KILL) => {
                Err(ProcessError::Time(self.limits.time.as_secs()))
            }
            _ if is_out_of_memory(message) => Err(ProcessError::Memory(self.limits.memory >> 20)),
            _ => {
                let message = message.lines().last().unwrap_or_default().to_owned();
                Err(ProcessError::Failed { status, message })
            }
        }
    }
}

/// True if a child ended because an allocation, a mapping or a thread failed.
fn is_out_of_memory(message: &str) -> bool {
    let signs =
        ["memory allocation of", "Cannot allocate memory", "os error 12", "Resource temporarily unavailable"];
    signs.iter().any(|sign| message.contains(sign))
}

/// Reads all of a pipe. Bytes after `limit` are an error.
fn read(pipe: impl io::Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![];
    pipe.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other("the compiled code is too large"));
    }
    Ok(bytes)
}

/// Waits for the child, and kills it at the deadline.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<ExitStatus> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            child.kill()?;
            return child.wait();
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Compiles the component on standard input to standard output. Returns the exit code of the child process.
pub fn run_child(config: Config, limits: CompileLimits) -> u8 {
    run_work(limits, |component| {
        let engine = Engine::new(&config).map_err(|error| format!("{error:#}"))?;
        Ok(engine.precompile_component(component).map_err(|error| format!("{error:#}")))
    })
}

/// Writes a report about the component on standard input to standard output. Returns the exit code of the child process.
pub fn run_check(limits: CompileLimits, report: impl FnOnce(&[u8]) -> Vec<u8>) -> u8 {
    run_work(limits, |component| Ok(Ok(report(component))))
}

/// The output for a component, or why it is invalid; or why there is no output.
type Work = Result<Result<Vec<u8>, String>, Box<dyn std::error::Error>>;

fn run_work(limits: CompileLimits, work: impl FnOnce(&[u8]) -> Work) -> u8 {
    let (code, message) = match read_component(limits).and_then(|component| work(&component)) {
        Ok(Ok(output)) => match io::stdout().write_all(&output).and_then(|()| io::stdout().flush()) {
            Ok(()) => return 0,
            Err(error) => (FAILED, error.to_string()),
        },
        Ok(Err(error)) => (INVALID, error),
        Err(error) => (FAILED, error.to_string()),
    };
    // Without a reader, there is nobody to tell.
    let _ = io::stderr().write_all(message.as_bytes());
    code
}

fn read_component(limits: CompileLimits) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    restrict(limits)?;
    let mut component = vec![];
    io::stdin().read_to_end(&mut component)?;
    Ok(component)
}

/// Limits this process.
fn restrict(limits: CompileLimits) -> io::Result<()> {
    let set = |resource, limit| {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) }).map_err(io::Error::from)
    };
    // Rounded up: a limit of 0 s would end the child before it begins.
    set(Resource::Cpu, limits.time.as_secs().max(1))?;
    set(Resource::Fsize, 0)?;
    set(Resource::Core, 0)?;
    // macOS does not limit address space.
    let limited = set(Resource::As, limits.memory.saturating_add(BASE_BYTES));
    if cfg!(target_os = "linux") { limited } else { Ok(()) }
}
