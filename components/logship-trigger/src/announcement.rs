//! Batches that are announced.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::body::Body;
use crate::call::Call;
use crate::deliver::{self, Delivered};
use crate::problem::Problem;
use crate::rule::Deliver;

/// A message that announces a batch: a JSON object with the rule, the headers of a call, and the batch or where it is.
#[derive(Debug)]
pub struct Announcement(Map<String, Value>);

impl Announcement {
    /// Reads a message.
    ///
    /// # Errors
    /// When it is no JSON object.
    pub fn read(message: &[u8]) -> Result<Self, Problem> {
        let read = serde_json::from_slice(message);
        read.map(Self).map_err(|error| Problem::bad_call(format!("the message is no JSON object: {error}")))
    }

    fn member(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Null => None,
            other => Some(other.to_string()),
        }
    }

    /// Gets the batch, and ships it.
    ///
    /// # Errors
    /// As [`ship`](crate::ship); and for a rule that delivers to the caller, as there is none.
    pub async fn ship(&self) -> Result<Delivered, Problem> {
        let rule = self.member("rule").ok_or_else(|| Problem::bad_call("the message has no `rule`"))?;
        let call = Call::read(&rule, |name| self.member(name))?;
        if crate::rule::Rule::named(&rule).await?.deliver == Deliver::Caller {
            let detail = format!(
                "rule {rule:?} delivers to the caller, and a message has none: say `deliver` in the rule"
            );
            return Err(Problem::settings(detail));
        }
        let body = match (self.member("body"), self.member("url")) {
            (Some(body), None) => STANDARD
                .decode(body)
                .map_err(|error| Problem::bad_batch(format!("`body` is no base64: {error}")))?,
            (None, Some(url)) => deliver::get(&url).await?,
            _ => return Err(Problem::bad_call("the message needs one of `url` and `body`")),
        };
        crate::ship(&call, Body::read(body, |name| self.member(name))?).await
    }
}
