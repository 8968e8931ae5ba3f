//! What joins an encoder and a compressor in a component fused of stages: it imports both, and exports them as one
//! `logship:pipeline/packer`. `logship compose` puts the two into it.
//!
//! - `bindings`: what `wit-bindgen` makes of the world `joint`.
//! - `packer`: encoded bytes go on to the compressor.
//! - `convert`: what the two say, as the packer says it.

#[cfg(target_arch = "wasm32")]
mod bindings;
#[cfg(target_arch = "wasm32")]
mod convert;
#[cfg(target_arch = "wasm32")]
mod packer;
