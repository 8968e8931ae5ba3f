//! The `logship` program.

#[global_allocator]
static ALLOCATOR: logship::allocator::Allocator = logship::allocator::Allocator;

fn main() -> std::process::ExitCode {
    logship::commands::run()
}
