//! Shared code of the triggers of logship. A trigger is a function of a serverless platform that turns one batch into
//! an object or messages, and delivers them.
//!
//! A trigger does not contain the stages but imports them. The application ([`spin.toml`]) maps each import to a
//! component, so changing one line replaces an encoder.
//!
//! - [`call`]: the parameters of a call: rule, task, shard, range.
//! - [`rule`]: the function's rules, from its variables.
//! - [`body`]: parses the body as batches; [`announcement`]: messages that announce a batch.
//! - [`stages`]: the imported stages; [`object`]: render, encode, compress; [`losses`]: values that are not in the object.
//! - [`deliver`]: delivery of objects, to [`s3`] among others; [`hec`]: delivery of events; [`digest`]: digests of
//!   objects.
//! - [`problem`]: errors for the caller.
//!
//! [`ship`] makes and delivers an object or events; [`describe`] only checks the rule and the stages.
//!
//! # Retries
//! An object's key and bytes depend only on the rule, the stages, the task and the logs. A retry writes the same bytes
//! to the same key, and its response says that the object existed.
//!
//! [`spin.toml`]: https://spinframework.dev/v4/writing-apps

pub mod announcement;
pub mod body;
pub mod call;
pub mod deliver;
pub mod digest;
pub mod hec;
pub mod losses;
pub mod object;
pub mod problem;
pub mod rule;
pub mod s3;
pub mod stages;

use body::{Body, MAX_BODY, MAX_BODY_BYTES, MAX_RAW_BODY, MAX_RAW_BYTES};
use call::{Call, TaskId};
use deliver::{DELIVERS, Delivered, STAGES};
use problem::Problem;
use rule::{Deliver, Rule, Spec};

/// Makes a rule's object or events from a batch, and delivers them.
///
/// # Errors
/// The problem. Its status tells whether a retry can help.
pub async fn ship(call: &Call, body: Body) -> Result<Delivered, Problem> {
    let rule = Rule::named(&call.rule).await?.merged_with(&call.spec)?;
    if matches!(rule.deliver, Deliver::Hec(_)) && call.key.is_some() {
        return Err(Problem::settings(format!(
            "the caller wants an object, but rule {:?} of this function delivers events to Splunk: call another rule",
            rule.name
        )));
    }
    match &rule.deliver {
        // All batches are parsed before the first is sent, so that no part of an invalid body is sent.
        Deliver::Hec(receiver) => {
            hec::send_all(&rule, receiver, &body.batches(call.task.created_time())?).await
        }
        deliver => deliver::object(deliver, call, object::make(&rule, call, &body)?).await,
    }
}

/// Checks a rule without logs. Returns the stages that make its objects or events, its kind of destination, and the
/// limits of calls.
///
/// # Errors
/// If the rule is unknown, contradicts the caller, or has incompatible stages.
pub async fn describe(rule: &str, caller: Spec) -> Result<Delivered, Problem> {
    let rule = Rule::named(rule).await?.merged_with(&caller)?;
    let stages = match &rule.deliver {
        Deliver::Hec(receiver) => hec::check(&rule, receiver)?,
        _ => {
            // A realistic task id, so that the key has a realistic length.
            let task = TaskId { created: 1_900_000_000_000_000_000, number: 9_999_999 };
            object::check(&rule, &Call::of(&rule.name, task))?
        }
    };
    Ok(Delivered {
        headers: vec![
            (STAGES, stages),
            (DELIVERS, rule.deliver.name().to_owned()),
            (MAX_BODY_BYTES, MAX_BODY.to_string()),
            (MAX_RAW_BYTES, MAX_RAW_BODY.to_string()),
        ],
        object: None,
    })
}
