//! Checks the settings of a HEC receiver and opens it.

use logship_config::hec::HecConfig;
use reqwest::Url;
use reqwest::header::HeaderValue;

use super::client::{self, Client, Endpoint};
use super::sink::Hec;
use crate::error::SinkError;
use crate::tls;

/// Opens a receiver. `name` is for logs and metrics. Does not connect.
///
/// # Errors
/// [`SinkError::ReceiverSetting`] if a setting is invalid.
pub(crate) fn open(name: &str, settings: &HecConfig) -> Result<Hec, SinkError> {
    if settings.urls.is_empty() {
        return Err(SinkError::receiver("urls", "is missing: https://HOST:8088, one or several"));
    }
    if settings.token.is_empty() {
        return Err(SinkError::receiver("token", "is missing"));
    }
    if settings.batch_bytes == 0 || settings.requests == 0 || settings.timeout_seconds == 0 {
        let problem = "batch-bytes, requests and timeout-seconds must be at least 1";
        return Err(SinkError::receiver("batch-bytes", problem));
    }
    let mut authorization = HeaderValue::from_str(&format!("Splunk {}", settings.token.expose()))
        .map_err(|_| SinkError::receiver("token", "has characters that a token cannot have"))?;
    authorization.set_sensitive(true);
    let endpoints = settings.urls.iter().map(|url| endpoint(url)).collect::<Result<_, _>>()?;
    if !settings.verify {
        tls::warn_unverified(name);
    }
    let client = Client::new(settings, client::http(settings)?, authorization, endpoints);
    Ok(Hec::new(name, settings, client))
}

/// Returns the endpoint at a URL of the settings.
pub(super) fn endpoint(url: &str) -> Result<Endpoint, SinkError> {
    let wrong = |problem: &str| SinkError::receiver("urls", format!("{url:?} {problem}"));
    let parsed =
        Url::parse(url).map_err(|_| wrong("is not a URL such as https://splunk.example.org:8088"))?;
    if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
        return Err(wrong("must begin with http:// or https://"));
    }
    let at = |path: &str| {
        let mut url = parsed.clone();
        url.set_path(&format!("{}{path}", parsed.path().trim_end_matches('/')));
        url
    };
    if parsed.path().contains("/services/collector") {
        return Err(wrong("has a path: remove /services/collector and everything after it"));
    }
    Ok(Endpoint::new(at("/services/collector/event"), at("/services/collector/ack")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_invalid_settings() {
        let right =
            HecConfig { urls: vec!["https://h:8088".into()], token: "t".into(), ..HecConfig::default() };
        open("hec", &right).unwrap();
        let problem = |change: fn(&mut HecConfig)| {
            let mut settings = right.clone();
            change(&mut settings);
            open("hec", &settings).unwrap_err().to_string()
        };
        assert!(problem(|settings| settings.urls.clear()).contains("urls: is missing"));
        assert!(problem(|settings| settings.urls[0] = "splunk:8088".into()).contains("must begin with http"));
        assert!(problem(|settings| settings.urls[0] += "/services/collector/event").contains("remove"));
        assert!(problem(|settings| settings.token = "".into()).contains("token: is missing"));
        assert!(problem(|settings| settings.token = "a\nb".into()).contains("token"));
        assert!(problem(|settings| settings.ca = Some("none.pem".into())).contains("none.pem"));
        assert!(!format!("{right:?}").contains("\"t\""), "the token is not shown");
    }
}
