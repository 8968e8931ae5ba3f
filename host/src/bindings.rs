//! What wasmtime makes of `wit/`: one module for each world.
#![allow(missing_docs, unreachable_pub)]

pub(crate) mod encoder {
    wasmtime::component::bindgen!({ path: "../wit", world: "logship:stages/encoder" });
}

pub(crate) mod compressor {
    wasmtime::component::bindgen!({ path: "../wit", world: "logship:stages/compressor" });
}

pub(crate) mod formatter {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "logship:stages/formatter",
        with: { "logship:batch/types": crate::bindings::encoder::logship::batch::types },
    });
}

pub(crate) mod renderer {
    wasmtime::component::bindgen!({ path: "../wit", world: "logship:stages/renderer" });
}
