//! The program `logship`.

fn main() -> std::process::ExitCode {
    logship::cli::run()
}
