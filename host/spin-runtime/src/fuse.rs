//! Fuses stages into one component: a pipeline in a single file that any host of the contract can run.

use wac_graph::{CompositionGraph, EncodeOptions, NodeId};

use crate::compose::{ComponentFile, ComposeError, chain, interface_names, register};

const RENDERER: &str = "logship:object-path/renderer@1.0.0";
const ENCODER: &str = "logship:encode/encoder@1.0.0";
const COMPRESSOR: &str = "logship:compress/compressor@1.0.0";
const PACKER: &str = "logship:pipeline/packer@1.0.0";
/// The optional export of an encoder that reports lost values.
const LOSSES: &str = "logship:losses/losses@1.0.0";

/// A compressor, and the adapter that connects it to an encoder.
#[derive(Debug)]
pub struct AdaptedCompressor<'a> {
    /// The fuse adapter, a component of the world `joint`.
    pub adapter: &'a ComponentFile,
    /// The compressor.
    pub compressor: &'a ComponentFile,
}

/// Fuses a renderer, an encoder and an optional compressor into a component of the world `pipeline` or
/// `compressed-pipeline`.
///
/// Without a compressor, the component re-exports the renderer and the encoder. With a compressor, a fuse adapter
/// imports the encoder and the compressor, and exports both as one packer. The component reports lost values if the
/// encoder does.
///
/// # Errors
/// Fails if a file is not a component, or lacks the export of its stage kind. The error names the file.
pub fn fuse(
    renderer: &ComponentFile,
    encoder: &ComponentFile,
    compressor: Option<&AdaptedCompressor<'_>>,
) -> Result<Vec<u8>, ComposeError> {
    let mut fusion = Fusion(CompositionGraph::new());
    let (_, renderer) = fusion.export_of("renderer", renderer, RENDERER)?;
    fusion.export(renderer, RENDERER)?;
    let (encoder_instance, encoder_export) = fusion.export_of("encoder", encoder, ENCODER)?;
    if let Ok(losses) = fusion.alias(encoder_instance, LOSSES) {
        fusion.export(losses, LOSSES)?;
    }
    match compressor {
        None => fusion.export(encoder_export, ENCODER)?,
        Some(AdaptedCompressor { adapter, compressor }) => {
            let (_, compressor_export) = fusion.export_of("compressor", compressor, COMPRESSOR)?;
            let package = register(&mut fusion.0, "fuse-adapter", adapter)?;
            let adapter_instance = fusion.0.instantiate(package);
            for (import, export, part) in
                [(ENCODER, encoder_export, encoder), (COMPRESSOR, compressor_export, compressor)]
            {
                fusion.0.set_instantiation_argument(adapter_instance, import, export).map_err(|error| {
                    let (plug, import) = (part.path.clone(), import.to_owned());
                    ComposeError::TypeMismatch { plug, import, problem: chain(&error) }
                })?;
            }
            let packer = fusion.alias(adapter_instance, PACKER)?;
            fusion.export(packer, PACKER)?;
        }
    }
    fusion.0.encode(EncodeOptions::default()).map_err(|error| ComposeError::Graph(chain(&error)))
}

/// A component under construction.
struct Fusion(CompositionGraph);

impl Fusion {
    /// Instantiates a part. Returns the instance, and its export of `interface`.
    fn export_of(
        &mut self,
        name: &str,
        part: &ComponentFile,
        interface: &str,
    ) -> Result<(NodeId, NodeId), ComposeError> {
        let package = register(&mut self.0, name, part)?;
        let known = interface_names(&self.0, package, false);
        if !known.iter().any(|export| export == interface) {
            let (plug, import) = (part.path.clone(), interface.to_owned());
            return Err(ComposeError::MissingExport { plug, import, known });
        }
        let instance = self.0.instantiate(package);
        Ok((instance, self.alias(instance, interface)?))
    }

    fn alias(&mut self, instance: NodeId, interface: &str) -> Result<NodeId, ComposeError> {
        let alias = self.0.alias_instance_export(instance, interface);
        alias.map_err(|error| ComposeError::Graph(chain(&error)))
    }

    fn export(&mut self, node: NodeId, interface: &str) -> Result<(), ComposeError> {
        self.0.export(node, interface).map_err(|error| ComposeError::Graph(chain(&error)))
    }
}
