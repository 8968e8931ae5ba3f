//! Bindings that `wit-bindgen` generates from `wit/`, one module per world. Internal: stages use the traits and the
//! export macros of the crate root.
#![allow(missing_docs, unreachable_pub, clippy::undocumented_unsafe_blocks)]

pub mod encoder {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "logship:stages/encoder",
        generate_all,
        // Groups are keys of hash maps.
        additional_derives: [PartialEq, Eq, Hash],
        pub_export_macro: true,
        export_macro_name: "export_encoder_world",
        default_bindings_module: "logship_stage::bindings::encoder",
    });
}

pub mod compressor {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "logship:stages/compressor",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_compressor_world",
        default_bindings_module: "logship_stage::bindings::compressor",
    });
}

pub mod formatter {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "logship:stages/formatter",
        // Shares the batch type with encoders.
        with: { "logship:batch/types@1.0.0": crate::bindings::encoder::logship::batch::types },
        pub_export_macro: true,
        export_macro_name: "export_formatter_world",
        default_bindings_module: "logship_stage::bindings::formatter",
    });
}

pub mod row_encoder {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "logship:stages/row-encoder",
        // Shares the batch type with encoders.
        with: { "logship:batch/types@1.0.0": crate::bindings::encoder::logship::batch::types },
        pub_export_macro: true,
        export_macro_name: "export_row_encoder_world",
        default_bindings_module: "logship_stage::bindings::row_encoder",
    });
}

pub mod renderer {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "logship:stages/renderer",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_renderer_world",
        default_bindings_module: "logship_stage::bindings::renderer",
    });
}

pub mod transformer {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "logship:stages/transformer",
        // Shares the batch type with encoders.
        with: { "logship:batch/types@1.0.0": crate::bindings::encoder::logship::batch::types },
        pub_export_macro: true,
        export_macro_name: "export_transformer_world",
        default_bindings_module: "logship_stage::bindings::transformer",
    });
}

pub mod losses {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "logship:stages/losses",
        generate_all,
        pub_export_macro: true,
        export_macro_name: "export_losses_world",
        default_bindings_module: "logship_stage::bindings::losses",
    });
}
