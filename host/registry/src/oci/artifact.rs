//! The parts of an artifact: manifest, configuration and layer.

use std::collections::BTreeMap;
use std::path::Path;

use chrono::{SecondsFormat, Utc};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wit_component::DecodedWasm;
use wit_parser::Resolve;

use crate::oci::{OciError, Reference, is_digest};
use logship_runtime::stage::Stage;

/// The media type of a component, and of a WIT package.
pub const LAYER: &str = "application/wasm";

/// The media type of an artifact's configuration.
pub const CONFIG: &str = "application/vnd.wasm.config.v0+json";

/// The annotation with the kind of stage.
pub const KIND: &str = "logship.kind";

/// The media type of an artifact's manifest.
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media types of image indexes and of Docker's manifests.
const OTHER_MANIFESTS: [&str; 3] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

const TITLE: &str = "org.opencontainers.image.title";
const VERSION: &str = "org.opencontainers.image.version";

/// The media types of container images' configurations.
const CONTAINER_CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// An artifact to push.
#[derive(Debug)]
pub struct Artifact {
    pub(super) layer: Vec<u8>,
    pub(super) layer_digest: String,
    pub(super) config: Vec<u8>,
    pub(super) config_digest: String,
    pub(super) manifest: Vec<u8>,
    /// The digest of the manifest, which identifies the artifact.
    pub digest: String,
}

impl Artifact {
    /// Creates the artifact of a stage.
    ///
    /// # Errors
    /// Fails if the component can't be read.
    pub fn of_stage(stage: &Stage, component: Vec<u8>) -> Result<Self, OciError> {
        let identity = stage.identity();
        let annotations = BTreeMap::from([
            (TITLE.to_owned(), identity.name().to_owned()),
            (VERSION.to_owned(), identity.version().to_owned()),
            (KIND.to_owned(), stage.kind().to_string()),
        ]);
        Self::new(identity.name(), component, annotations)
    }

    /// Creates the artifact of the WIT package in a folder, with its dependencies in `deps`.
    ///
    /// # Errors
    /// Fails if the package can't be read.
    pub fn of_wit(folder: &Path) -> Result<Self, OciError> {
        let origin = folder.display().to_string();
        let unreadable = |reason: String| OciError::Unreadable { origin: origin.clone(), reason };
        let mut resolve = Resolve::default();
        let read = resolve.push_dir(folder);
        let (package, _) = read.map_err(|error| unreadable(format!("not a WIT package: {error:#}")))?;
        let bytes =
            wit_component::encode(&resolve, package).map_err(|error| unreadable(format!("{error:#}")))?;
        let name = &resolve.packages[package].name;
        let mut annotations =
            BTreeMap::from([(TITLE.to_owned(), format!("{}:{}", name.namespace, name.name))]);
        if let Some(version) = &name.version {
            annotations.insert(VERSION.to_owned(), version.to_string());
        }
        Self::new(&origin, bytes, annotations)
    }

    fn new(origin: &str, bytes: Vec<u8>, annotations: BTreeMap<String, String>) -> Result<Self, OciError> {
        let layer_digest = sha256(&bytes);
        let (exports, imports) = interfaces(origin, &bytes)?;
        let config = json!({
            "created": Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true),
            "architecture": "wasm",
            "os": "wasip2",
            "layerDigests": [layer_digest],
            "component": { "exports": exports, "imports": imports, "target": null },
        });
        let config = config.to_string().into_bytes();
        let config_digest = sha256(&config);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": { "mediaType": CONFIG, "digest": config_digest, "size": config.len() },
            "layers": [{ "mediaType": LAYER, "digest": layer_digest, "size": bytes.len() }],
            "annotations": annotations,
        });
        let manifest = manifest.to_string().into_bytes();
        let digest = sha256(&manifest);
        Ok(Self { layer: bytes, layer_digest, config, config_digest, manifest, digest })
    }
}

/// The fields of a manifest that logship reads.
#[derive(Debug, Deserialize)]
struct Manifest {
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    /// Only in an image index.
    manifests: Option<Vec<Value>>,
}

/// A manifest's description of a blob.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
}

/// Returns the exports and imports of a component, or the interfaces of a WIT package.
fn interfaces(origin: &str, bytes: &[u8]) -> Result<(Vec<String>, Vec<String>), OciError> {
    let decoded = wit_component::decode(bytes)
        .map_err(|error| OciError::Unreadable { origin: origin.into(), reason: format!("{error:#}") })?;
    Ok(match decoded {
        DecodedWasm::Component(resolve, world) => {
            let world = &resolve.worlds[world];
            let names = |keys: Vec<_>| keys.into_iter().map(|key| resolve.name_world_key(key)).collect();
            (names(world.exports.keys().collect()), names(world.imports.keys().collect()))
        }
        DecodedWasm::WitPackage(resolve, package) => {
            let interfaces = resolve.packages[package].interfaces.values();
            (interfaces.filter_map(|id| resolve.id_of(*id)).collect(), vec![])
        }
    })
}

/// The `Accept` header for manifests. It includes image types, so that an image is rejected with a clear message.
pub(super) fn accept_header() -> String {
    [MANIFEST].into_iter().chain(OTHER_MANIFESTS).collect::<Vec<_>>().join(", ")
}

/// Returns the layer of a manifest that is the component.
pub(super) fn component_layer(reference: &Reference, manifest: &[u8]) -> Result<Descriptor, OciError> {
    let rejected = |found: String| OciError::NotAComponent { reference: reference.to_string(), found };
    let read: Manifest = serde_json::from_slice(manifest)
        .map_err(|error| rejected(format!("not a manifest that logship can read ({error})")))?;
    if read.manifests.is_some() {
        return Err(rejected("an index of several images, one per platform".into()));
    }
    let (Some(config), Some(layers)) = (read.config, read.layers) else {
        return Err(rejected("not the manifest of an artifact".into()));
    };
    if CONTAINER_CONFIGS.contains(&config.media_type.as_str()) {
        return Err(rejected(format!("a container image ({})", config.media_type)));
    }
    if let Some(layer) = layers.iter().find(|layer| !is_digest(&layer.digest)) {
        return Err(rejected(format!("an artifact with the invalid digest {:?}", layer.digest)));
    }
    match layers.as_slice() {
        [layer] if layer.media_type == LAYER => Ok(layer.clone()),
        [layer] => Err(rejected(format!("an artifact with a layer of type {}", layer.media_type))),
        layers => Err(rejected(format!("an artifact with {} layers", layers.len()))),
    }
}

/// The SHA-256 of bytes in the form `sha256:HEX`.
pub(super) fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wit_package_includes_dependencies() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
        let artifact = Artifact::of_wit(&folder).expect("the contract is a package");
        let manifest: Value = serde_json::from_slice(&artifact.manifest).expect("a manifest is JSON");
        assert_eq!(
            manifest["annotations"],
            json!({ "org.opencontainers.image.title": "logship:stages", "org.opencontainers.image.version": "1.0.0" })
        );
        let Ok(DecodedWasm::WitPackage(resolve, package)) = wit_component::decode(&artifact.layer) else {
            panic!("no WIT package");
        };
        assert!(resolve.packages[package].worlds.contains_key("encoder"));
        let names: Vec<_> = resolve.packages.iter().map(|(_, package)| package.name.to_string()).collect();
        assert!(names.iter().any(|name| name == "logship:encode@1.0.0"), "{names:?}");
    }

    #[test]
    fn rejects_folder_without_wit() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = Artifact::of_wit(folder.path()).map_err(|error| error.to_string());
        assert!(error.as_ref().is_err_and(|error| error.contains("not a WIT package")), "{error:?}");
    }

    #[test]
    fn rejects_other_artifacts_by_type() {
        let reference: Reference = "ghcr.io/acme/cef:1".parse().expect("a reference");
        let digest = sha256(b"");
        let descriptor = |kind: &str| json!({ "mediaType": kind, "digest": digest, "size": 0 });
        let image = |config: &str, layers: &[&str]| {
            let layers: Vec<_> = layers.iter().map(|kind| descriptor(kind)).collect();
            json!({ "schemaVersion": 2, "config": descriptor(config), "layers": layers })
        };
        assert!(component_layer(&reference, image(CONFIG, &[LAYER]).to_string().as_bytes()).is_ok());
        for (manifest, text) in [
            (
                image(CONTAINER_CONFIGS[0], &["application/vnd.oci.image.layer.v1.tar+gzip"]),
                "a container image",
            ),
            (
                image("application/vnd.cncf.helm.config.v1+json", &["application/x-helm"]),
                "application/x-helm",
            ),
            (image(CONFIG, &[LAYER, LAYER]), "2 layers"),
            (image(CONFIG, &[]), "0 layers"),
            (
                json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [] }),
                "an index of several images",
            ),
            (
                json!({ "config": descriptor(CONFIG), "layers": [{ "mediaType": LAYER, "digest": "../x", "size": 1 }] }),
                "an artifact with the invalid digest \"../x\"",
            ),
            (json!({}), "not the manifest"),
        ] {
            let found = component_layer(&reference, manifest.to_string().as_bytes())
                .map_err(|error| error.to_string());
            assert!(found.as_ref().is_err_and(|error| error.contains(text)), "{manifest}: {found:?}");
        }
    }
}
