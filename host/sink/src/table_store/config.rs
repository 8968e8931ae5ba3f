//! Checks the settings of an instance and opens it.

use logship_config::table_store::TableStoreConfig;
use reqwest::Url;

use super::client::Client;
use super::sink::TableStore;
use crate::error::SinkError;
use crate::http;

/// The read timeout, in seconds.
const TIMEOUT_SECONDS: u64 = 30;

/// Opens an instance. `name` is for logs and metrics. Does not connect.
///
/// # Errors
/// [`SinkError::Settings`] if a setting is invalid.
pub(super) fn open(name: &str, config: &TableStoreConfig) -> Result<TableStore, SinkError> {
    config.check().map_err(|error| SinkError::Settings(error.to_string()))?;
    let wrong = |error| SinkError::Settings(format!("endpoint: {:?}: {error}", config.endpoint));
    let url = Url::parse(&config.endpoint).map_err(wrong)?;
    let proxy = config.proxy.as_ref().map(|proxy| proxy.expose());
    let timeout = config.timeout_seconds.unwrap_or(TIMEOUT_SECONDS);
    let http = http::client(timeout, proxy, config.ca.as_deref())?;
    Ok(TableStore::new(name, Client::new(config.clone(), url, http)))
}
