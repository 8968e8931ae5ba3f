//! Checks the settings of a MaxCompute project and opens it.

use logship_config::maxcompute::MaxComputeConfig;
use logship_config::secret::Secret;
use opendal::HttpTransporter;
use reqwest::Url;

use super::client::Client;
use super::keys::KeyProvider;
use super::sink::MaxCompute;
use crate::error::SinkError;
use crate::http;
use crate::store_transport::ReloadedHttp;

/// The read timeout of a request, in seconds.
const DEFAULT_TIMEOUT_SECONDS: u64 = 120;

/// The longest name of a project, schema or table.
const MAX_NAME_BYTES: usize = 128;

/// Opens a project. Does not connect.
///
/// # Errors
/// [`SinkError::Settings`] if a setting is invalid.
pub fn open(config: &MaxComputeConfig) -> Result<MaxCompute, SinkError> {
    let endpoint = url("endpoint", &config.endpoint)?;
    let tunnel = config.tunnel_endpoint.as_deref().map(|text| url("tunnel-endpoint", text)).transpose()?;
    check_name("project", &config.project)?;
    config.schema.as_deref().map_or(Ok(()), |schema| check_name("schema", schema))?;
    if config.access_key_id.is_empty() != config.access_key_secret.is_empty() {
        return Err(settings("access-key-id and access-key-secret must be set together"));
    }
    if let Some(region) = config.region.as_deref().filter(|region| region.is_empty() || region.contains('/'))
    {
        return Err(settings(&format!("region {region:?} is not a region: use a name such as cn-hangzhou")));
    }
    let timeout = config.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS);
    let proxy = config.proxy.as_ref().map(Secret::expose);
    let client = http::client(timeout, proxy, config.ca.as_deref())?;
    let sts_client = http::client(timeout, proxy, config.ca.as_deref())?;
    let keys = KeyProvider::new(config, HttpTransporter::new(ReloadedHttp(sts_client)));
    Ok(MaxCompute::new(Client::new(config, client, keys, endpoint, tunnel)))
}

fn settings(problem: &str) -> SinkError {
    SinkError::Settings(problem.to_owned())
}

/// Checks the name of a project, schema or table.
///
/// # Errors
/// [`SinkError::Settings`] if it is not a name.
pub fn check_name(setting: &str, name: &str) -> Result<(), SinkError> {
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(is_name_byte) {
        return Ok(());
    }
    Err(settings(&format!("{setting} {name:?} is not a name: use 1-{MAX_NAME_BYTES} letters, digits and _")))
}

/// Parses an endpoint. Its path ends without `/`.
fn url(setting: &str, text: &str) -> Result<Url, SinkError> {
    let example = match setting {
        "endpoint" => "https://service.cn-hangzhou.maxcompute.aliyun.com/api",
        _ => "https://dt.cn-hangzhou.maxcompute.aliyun.com",
    };
    if text.is_empty() {
        return Err(settings(&format!("{setting} is missing: use a URL such as {example}")));
    }
    let url = Url::parse(text.trim_end_matches('/'));
    let is_endpoint = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    };
    url.ok()
        .filter(is_endpoint)
        .ok_or_else(|| settings(&format!("{setting} {text:?} is not a URL: use one such as {example}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Sink as _;

    fn config() -> MaxComputeConfig {
        MaxComputeConfig {
            endpoint: "http://h:1/api/".into(),
            project: "p".into(),
            access_key_id: "a".into(),
            access_key_secret: "s".into(),
            ..MaxComputeConfig::default()
        }
    }

    #[test]
    fn names_the_wrong_setting() {
        assert_eq!(open(&config()).unwrap().name(), "p");
        let problem = |config: MaxComputeConfig| open(&config).unwrap_err().to_string();
        assert!(
            problem(MaxComputeConfig { endpoint: String::new(), ..config() }).contains("endpoint is missing")
        );
        for endpoint in ["h/api", "ftp://h", "http://h?x=1", "http://u:p@h", "http://"] {
            let wrong = MaxComputeConfig { endpoint: endpoint.into(), ..config() };
            assert!(problem(wrong).contains("is not a URL"), "{endpoint}");
        }
        for project in ["", "a/b", "ü", "a b", &"p".repeat(129)] {
            let wrong = MaxComputeConfig { project: project.into(), ..config() };
            assert!(problem(wrong).contains("project"), "{project}");
        }
        let secretless = MaxComputeConfig { access_key_secret: "".into(), ..config() };
        assert!(problem(secretless).contains("together"));
        let timeout = MaxComputeConfig { timeout_seconds: Some(0), ..config() };
        assert!(problem(timeout).contains("timeout-seconds"));
        let region = MaxComputeConfig { region: Some("a/b".into()), ..config() };
        assert!(problem(region).contains("region"));
    }
}
