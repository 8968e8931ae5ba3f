//! `snappy_tool IN OUT`: decompresses a raw snappy block, such as a `.snappy` object.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::{env, fmt, fs};

#[derive(Debug, thiserror::Error)]
enum ToolError {
    #[error(
        "usage: snappy_tool IN OUT\nDecompresses the raw snappy block IN, such as a .snappy object, to OUT"
    )]
    Usage,
    #[error("can't read {path}: {1}", path = .0.display())]
    Read(PathBuf, io::Error),
    #[error("{path} is not a raw snappy block: {1}", path = .0.display())]
    Snappy(PathBuf, snap::Error),
    #[error("can't write {path}: {1}", path = .0.display())]
    Write(PathBuf, io::Error),
}

fn run() -> Result<(), ToolError> {
    let mut args = env::args_os().skip(1).map(PathBuf::from);
    let (Some(from), Some(to), None) = (args.next(), args.next(), args.next()) else {
        return Err(ToolError::Usage);
    };
    let compressed = fs::read(&from).map_err(|error| ToolError::Read(from.clone(), error))?;
    print(format_args!("compressed size: {}", compressed.len()));
    let bytes = snap::raw::Decoder::new()
        .decompress_vec(&compressed)
        .map_err(|error| ToolError::Snappy(from, error))?;
    fs::write(&to, &bytes).map_err(|error| ToolError::Write(to, error))?;
    print(format_args!("success: true\nuncompressed size: {}", bytes.len()));
    Ok(())
}

/// Prints a line. The file counts, not whether somebody reads about it.
fn print(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stdout(), "{text}");
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}
