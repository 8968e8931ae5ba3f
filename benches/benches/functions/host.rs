//! The host, which runs the stages itself.

use logship_config::rule::{Rule, StageSpec, Stages};
use logship_delivery::pipeline::Pipeline;
use logship_registry::Registry;
use logship_runtime::engine::{Engine, Limits};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::TASK;
use crate::input::InputFormat;

/// The stages of a rule.
pub(crate) struct Host {
    pipeline: Pipeline,
}

/// The host's object of a batch.
pub(crate) struct Object {
    _key: String,
    pub(crate) bytes: Vec<u8>,
    _sha256: [u8; 32],
}

impl Host {
    pub(crate) fn new(format: &str, compression: &str, stages: Stages) -> Self {
        let registry = Registry::new(Engine::new(Limits::default(), None).expect("an engine"));
        let format: StageSpec = serde_json::from_value(settings_of(format)).expect("a format");
        let compression: StageSpec = serde_json::from_value(json!(compression)).expect("a compression");
        let rule = Rule { name: "lake".into(), format, compression, stages, ..Rule::default() };
        Self { pipeline: Pipeline::new(&registry, &rule).expect("a pipeline") }
    }

    pub(crate) fn build(&self, body: &[u8], format: InputFormat) -> Object {
        let _key = self.pipeline.key(&TASK).expect("a key");
        let mut encoding = self.pipeline.open().expect("opened");
        let mut bytes = vec![];
        format.batches(body, |batch| bytes.append(&mut encoding.push(batch).expect("encoded")));
        let mut ending = encoding.finish().expect("finished").ending;
        bytes.append(&mut ending.trailer);
        bytes.splice(..0, ending.header);
        let _sha256 = Sha256::digest(&bytes).into();
        Object { _key, bytes, _sha256 }
    }
}

/// Returns the settings of a format's stage.
pub(crate) fn settings_of(format: &str) -> Value {
    const NUMBERS: [(&str, &str); 4] =
        [("__time__", "int64"), ("status", "int32"), ("bytes", "int64"), ("latency", "double")];
    const TEXTS: [&str; 9] = [
        "__topic__",
        "__source__",
        "method",
        "path",
        "host",
        "client_ip",
        "referer",
        "user_agent",
        "request_id",
    ];
    let columns = match format {
        "json" => return json!({ "type": format }),
        "csv" => NUMBERS.map(|(key, _)| json!(key)).into_iter().chain(TEXTS.map(|key| json!(key))).collect(),
        _ => NUMBERS
            .map(|(key, number)| json!({ "key": key, "type": number }))
            .into_iter()
            .chain(TEXTS.map(|key| json!({ "key": key })))
            .collect::<Vec<_>>(),
    };
    json!({ "type": format, "columns": columns })
}
