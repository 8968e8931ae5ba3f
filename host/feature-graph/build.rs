//! Makes cargo compile the build dependencies.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
