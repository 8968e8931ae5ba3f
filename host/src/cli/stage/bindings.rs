//! The contract in Go, by wit-bindgen.

use wit_bindgen_core::Files;
use wit_bindgen_go::{Format, Opts};

use super::super::Failure;
use super::template::File;
use crate::contract;
use crate::stage::Kind;

/// The module that the bindings need, and its version.
pub(super) fn package() -> String {
    wit_bindgen_go::remote_pkg_version()
}

/// What stands in `bindings/` of the module of this name.
///
/// # Errors
/// When wit-bindgen can't: a defect.
pub(super) fn files(module: &str, kind: Kind) -> Result<Vec<File>, Failure> {
    let (mut resolve, package) = contract::resolve();
    let world = resolve.select_world(&[package], Some(&kind.to_string()))?;
    // Not by gofmt: what a command writes does not depend on what else is installed.
    let options =
        Opts { pkg_name: Some(format!("{module}/bindings")), format: Format::False, ..Opts::default() };
    let mut files = Files::default();
    options.build().generate(&mut resolve, world, &mut files)?;
    let file = |(path, bytes): (&str, &[u8])| {
        Ok(File { path: format!("bindings/{path}"), text: std::str::from_utf8(bytes)?.to_owned() })
    };
    files.iter().map(file).collect()
}
