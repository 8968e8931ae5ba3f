//! Stages as one component: a pipeline that any host of the contract can run, and one file to hand on.

use wac_graph::{CompositionGraph, EncodeOptions, NodeId};

use crate::compose::{ComposeError, Part, chain, names, register};

const RENDERER: &str = "logship:object-path/renderer@1.0.0";
const ENCODER: &str = "logship:encode/encoder@1.0.0";
const COMPRESSOR: &str = "logship:compress/compressor@1.0.0";
const PACKER: &str = "logship:pipeline/packer@1.0.0";

/// A compressor, and what joins it to an encoder.
#[derive(Debug)]
pub struct Compressing<'a> {
    /// The component of the world `joint`.
    pub joint: &'a Part,
    /// The compressor.
    pub compressor: &'a Part,
}

/// Fuses a renderer and an encoder, and a compressor behind that, into a component of the world `pipeline` or
/// `compressed-pipeline`.
///
/// Renderer and encoder are exported as they are: nothing stands between them and the host. An encoder with a compressor
/// behind it is a component of its own, the joint, that has the two inside.
///
/// # Errors
/// When a part is no component, or does not export what its place needs; each by name.
pub fn fuse(
    renderer: &Part,
    encoder: &Part,
    compressing: Option<&Compressing<'_>>,
) -> Result<Vec<u8>, ComposeError> {
    let mut fusion = Fusion(CompositionGraph::new());
    let renderer = fusion.export_of("renderer", renderer, RENDERER)?;
    fusion.export(renderer, RENDERER)?;
    let encoder_export = fusion.export_of("encoder", encoder, ENCODER)?;
    match compressing {
        None => fusion.export(encoder_export, ENCODER)?,
        Some(Compressing { joint, compressor }) => {
            let compressor_export = fusion.export_of("compressor", compressor, COMPRESSOR)?;
            let package = register(&mut fusion.0, "joint", joint)?;
            let joined = fusion.0.instantiate(package);
            for (import, export, part) in
                [(ENCODER, encoder_export, encoder), (COMPRESSOR, compressor_export, compressor)]
            {
                fusion.0.set_instantiation_argument(joined, import, export).map_err(|error| {
                    let (plug, import) = (part.path.clone(), import.to_owned());
                    ComposeError::OtherForm { plug, import, problem: chain(&error) }
                })?;
            }
            let packer = fusion.alias(joined, PACKER)?;
            fusion.export(packer, PACKER)?;
        }
    }
    fusion.0.encode(EncodeOptions::default()).map_err(|error| ComposeError::Graph(chain(&error)))
}

/// A component in the making.
struct Fusion(CompositionGraph);

impl Fusion {
    /// What an instance of the part exports under `interface`.
    fn export_of(&mut self, name: &str, part: &Part, interface: &str) -> Result<NodeId, ComposeError> {
        let package = register(&mut self.0, name, part)?;
        let known = names(&self.0, package, false);
        if !known.iter().any(|export| export == interface) {
            let (plug, import) = (part.path.clone(), interface.to_owned());
            return Err(ComposeError::NoExport { plug, import, known });
        }
        let instance = self.0.instantiate(package);
        self.alias(instance, interface)
    }

    fn alias(&mut self, instance: NodeId, interface: &str) -> Result<NodeId, ComposeError> {
        let alias = self.0.alias_instance_export(instance, interface);
        alias.map_err(|error| ComposeError::Graph(chain(&error)))
    }

    fn export(&mut self, node: NodeId, interface: &str) -> Result<(), ComposeError> {
        self.0.export(node, interface).map_err(|error| ComposeError::Graph(chain(&error)))
    }
}
