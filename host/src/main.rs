//! The program `logship`.

/// Batches come and go by the megabyte: an allocator that keeps their memory has it ready for the next.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    logship::cli::run()
}
