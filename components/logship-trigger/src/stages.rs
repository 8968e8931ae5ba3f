//! Bindings of the imported stages, generated from `wit/`. The application maps each import to a component.
#![allow(missing_docs, clippy::undocumented_unsafe_blocks)]

spin_sdk::wit_bindgen::generate!({
    path: "../../wit",
    world: "logship:stages/trigger",
    runtime_path: "::spin_sdk::wit_bindgen::rt",
    with: { "logship:batch/types@1.0.0": logship_batch::types },
    generate_all,
});

pub use logship::compress::compressor;
pub use logship::encode::encoder;
pub use logship::object_path::renderer;
pub use logship::siem::formatter;
