//! Batches announced by a message.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::body::Body;
use crate::call::Call;
use crate::deliver::{self, Delivered};
use crate::problem::Problem;
use crate::rule::Deliver;

/// A message that announces a batch: a JSON object with the rule, the headers of a call, and the batch or its URL.
#[derive(Debug)]
pub struct Announcement(Map<String, Value>);

impl Announcement {
    /// Parses a message.
    ///
    /// # Errors
    /// If the message is not a JSON object.
    pub fn read(message: &[u8]) -> Result<Self, Problem> {
        let parsed = serde_json::from_slice(message);
        parsed
            .map(Self)
            .map_err(|error| Problem::bad_call(format!("the message is not a JSON object: {error}")))
    }

    fn field(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Null => None,
            other => Some(other.to_string()),
        }
    }

    /// Fetches the batch and ships it.
    ///
    /// # Errors
    /// As [`ship`](crate::ship), or if the rule delivers to the caller: a message has no caller.
    pub async fn ship(&self) -> Result<Delivered, Problem> {
        let rule = self.field("rule").ok_or_else(|| Problem::bad_call("the message has no `rule`"))?;
        let call = Call::read(&rule, |name| self.field(name))?;
        if crate::rule::Rule::named(&rule).await?.deliver == Deliver::Caller {
            let detail = format!(
                "rule {rule:?} delivers to the caller, but a message has no caller: set `deliver` in the rule"
            );
            return Err(Problem::settings(detail));
        }
        let body = match (self.field("body"), self.field("url")) {
            (Some(body), None) => STANDARD
                .decode(body)
                .map_err(|error| Problem::bad_batch(format!("`body` is not base64: {error}")))?,
            (None, Some(url)) => deliver::get(&url).await?,
            _ => return Err(Problem::bad_call("the message needs one of `url` and `body`")),
        };
        crate::ship(&call, Body::read(body, |name| self.field(name))?).await
    }
}
