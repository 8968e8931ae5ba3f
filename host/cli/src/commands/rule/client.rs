//! Requests for the rules of a logstore.

use crate::print::errln;
use logship_client::{Client, ClientError};
use logship_sls::error::ErrorCode;
use reqwest::Method;
use serde_json::Value;

use super::desired::DesiredRule;
use crate::commands::Failure;

/// A client of a logstore's rules.
pub(super) struct RuleClient {
    pub(super) client: Client,
    pub(super) logstore: String,
}

impl RuleClient {
    fn path(&self, name: &str) -> String {
        format!("/logstores/{}/shipper/{name}", self.logstore)
    }

    pub(super) async fn names(&self) -> Result<Vec<String>, Failure> {
        let path = format!("/logstores/{}/shipper", self.logstore);
        let (mut names, mut total) = (vec![], 1);
        while names.len() < total {
            let offset = names.len().to_string();
            let page: Value = self.client.get(&path, &[("offset", &offset), ("size", "500")]).await?;
            let found = page["shipper"].as_array().into_iter().flatten();
            let before = names.len();
            names.extend(found.filter_map(Value::as_str).map(str::to_owned));
            total = if names.len() == before { 0 } else { page["total"].as_u64().unwrap_or(0) as usize };
        }
        Ok(names)
    }

    /// Returns the service's description of a rule, or `None` if it does not exist.
    pub(super) async fn get(&self, name: &str) -> Result<Option<Value>, Failure> {
        match self.client.get(&self.path(name), &[]).await {
            Ok(rule) => Ok(Some(rule)),
            Err(ClientError::Rejected(error)) if error.code == ErrorCode::ShipperNotExist => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn get_existing(&self, name: &str) -> Result<Value, Failure> {
        let missing = || format!("{} has no rule {name}; logship rule list shows all rules", self.logstore);
        Ok(self.get(name).await?.ok_or_else(missing)?)
    }

    pub(super) async fn create(&self, rule: &DesiredRule, query: &[(&str, &str)]) -> Result<(), Failure> {
        let path = format!("/logstores/{}/shipper", self.logstore);
        let reply = self.client.send_json(Method::POST, &path, query, &rule.body()).await?;
        warn(&reply);
        Ok(())
    }

    pub(super) async fn update(&self, rule: &DesiredRule, query: &[(&str, &str)]) -> Result<(), Failure> {
        let reply = self.client.send_json(Method::PUT, &self.path(&rule.name), query, &rule.body()).await?;
        warn(&reply);
        Ok(())
    }

    pub(super) async fn set_enabled(&self, name: &str, enabled: bool) -> Result<(), Failure> {
        let mut shown = self.get_existing(name).await?;
        shown["targetConfiguration"]["enable"] = enabled.into();
        self.client.send_json(Method::PUT, &self.path(name), &[], &shown).await?;
        Ok(())
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), Failure> {
        self.client.send_json(Method::DELETE, &self.path(name), &[], &Value::Null).await?;
        Ok(())
    }
}

fn warn(reply: &Value) {
    if let Some(message) = reply["warning"]["message"].as_str() {
        errln!("warning: {message}");
    }
}
