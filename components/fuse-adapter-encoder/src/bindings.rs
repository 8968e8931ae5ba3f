#![allow(missing_docs, unreachable_pub, clippy::undocumented_unsafe_blocks)]

wit_bindgen::generate!({ path: "../../wit", world: "logship:stages/joint-encoder", generate_all });

pub(crate) use export as export_adapter;
