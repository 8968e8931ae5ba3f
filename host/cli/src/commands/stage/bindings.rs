//! Generates Go bindings of the contract with wit-bindgen.

use wit_bindgen_core::Files;
use wit_bindgen_go::{Format, Opts};

use super::super::Failure;
use super::template::File;
use logship_runtime::contract;
use logship_runtime::stage::Kind;

/// Returns the Go module that the bindings need, with its version.
pub(super) fn package() -> String {
    wit_bindgen_go::remote_pkg_version()
}

/// Returns the files of `bindings/` in the Go module of this name.
///
/// # Errors
/// Fails if wit-bindgen fails, which is a bug.
pub(super) fn files(module: &str, kind: Kind) -> Result<Vec<File>, Failure> {
    let (mut resolve, package) = contract::resolve();
    let world = resolve.select_world(&[package], Some(&kind.to_string()))?;
    // Without gofmt, so that the output doesn't depend on installed tools.
    let options =
        Opts { pkg_name: Some(format!("{module}/bindings")), format: Format::False, ..Opts::default() };
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files)?;
    let file = |(path, bytes): (&str, &[u8])| {
        Ok(File { path: format!("bindings/{path}"), text: std::str::from_utf8(bytes)?.to_owned() })
    };
    files.iter().map(file).collect()
}
