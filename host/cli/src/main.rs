//! The `logship` program.

/// Keeps freed memory for reuse, because batches of several megabytes are allocated and freed all the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    logship::commands::run()
}
