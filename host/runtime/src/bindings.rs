//! Bindings that wasmtime generates from `wit/`, one module per world.
#![allow(missing_docs, unreachable_pub)]

pub mod encoder {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "logship:stages/encoder",
        with: { "logship:batch/types": crate::bindings::batch_types },
    });
}

pub(crate) mod losses {
    wasmtime::component::bindgen!({ path: "../../wit", world: "logship:stages/losses" });
}

pub mod compressor {
    wasmtime::component::bindgen!({ path: "../../wit", world: "logship:stages/compressor" });
}

pub mod formatter {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "logship:stages/formatter",
        with: { "logship:batch/types": crate::bindings::batch_types },
    });
}

pub(crate) mod packer {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "logship:stages/compressed-pipeline",
        with: { "logship:batch/types": crate::bindings::batch_types },
    });
}

pub mod renderer {
    wasmtime::component::bindgen!({ path: "../../wit", world: "logship:stages/renderer" });
}

pub mod row_encoder {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "logship:stages/row-encoder",
        with: { "logship:batch/types": crate::bindings::batch_types },
    });
}

pub(crate) mod transformer {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "logship:stages/transformer",
        with: { "logship:batch/types": crate::bindings::batch_types },
    });
}

/// The items that `bindgen!` expects for an interface. This interface has only types, so nothing is linked.
#[allow(dead_code, reason = "the macro wants them to be there, and calls none")]
pub mod batch_types {
    pub use logship_batch::types::LogBatch;
    use wasmtime::component::{HasData, Linker};

    pub trait HostWithStore<T>: HasData {}

    impl<T, D: HasData> HostWithStore<T> for D {}

    pub trait Host {}

    impl<H> Host for H {}

    pub fn add_to_linker<T: 'static, D: HostWithStore<T>>(
        _linker: &mut Linker<T>,
        _data: fn(&mut T) -> D::Data<'_>,
    ) -> wasmtime::Result<()> {
        Ok(())
    }
}
