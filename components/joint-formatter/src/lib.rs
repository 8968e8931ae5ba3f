//! What puts a transformer before a formatter in a component fused of both: it imports the two, and exports them as one
//! `logship:siem/formatter`. `logship compose` puts them into it.
//!
//! - `bindings`: what `wit-bindgen` makes of the world `joint-formatter`.
//! - `formatter`: logs go through the transformer before they are formatted.

#[cfg(target_arch = "wasm32")]
mod bindings;
#[cfg(target_arch = "wasm32")]
mod formatter;
