//! What puts a transformer before an encoder in a component fused of both: it imports the two, and exports them as one
//! `logship:encode/encoder`. `logship compose` puts them into it.
//!
//! - `bindings`: what `wit-bindgen` makes of the world `joint-encoder`.
//! - `encoder`: logs go through the transformer before they are encoded.

#[cfg(target_arch = "wasm32")]
mod bindings;
#[cfg(target_arch = "wasm32")]
mod encoder;
