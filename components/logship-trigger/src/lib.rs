//! What the triggers of logship share: functions of a serverless platform, which make an object or messages of one
//! batch, and deliver them.
//!
//! A trigger does not have the stages inside: it imports them, and the application ([`spin.toml`]) says which
//! component serves each. So an encoder is swapped by a line in that file.
//!
//! - [`call`]: what a call is about: rule, task, shard, range.
//! - [`rule`]: the rules that the function knows, from its variables.
//! - [`body`]: batches from what was sent; [`announcement`]: what is announced, and has to be fetched.
//! - [`stages`]: the imported stages; [`object`]: render, encode, compress.
//! - [`deliver`]: where the bytes go; [`s3`], [`hec`]; [`digest`]: what they are checked by.
//! - [`problem`]: what went wrong, for the caller.
//!
//! [`ship`] is all of it; [`describe`] only tells whether it would.
//!
//! # Safe to repeat
//! An object's key and bytes depend on nothing but the rule, the stages, the task and the logs. A call that is
//! repeated writes the same bytes to the same key, and says so.
//!
//! [`spin.toml`]: https://spinframework.dev/v4/writing-apps

pub mod announcement;
pub mod body;
pub mod call;
pub mod deliver;
pub mod digest;
pub mod hec;
pub mod object;
pub mod problem;
pub mod rule;
pub mod s3;
pub mod stages;

use body::Body;
use call::{Call, TaskId};
use deliver::{DELIVERS, Delivered, STAGES};
use problem::Problem;
use rule::{Deliver, Rule, Spec};

/// Makes what the rule asks for of a batch, and delivers it.
///
/// # Errors
/// What is wrong, and whether trying again can help.
pub async fn ship(call: &Call, body: Body) -> Result<Delivered, Problem> {
    let rule = Rule::named(&call.rule).await?.agreed(&call.spec)?;
    if matches!(rule.deliver, Deliver::Hec(_)) && call.key.is_some() {
        return Err(Problem::settings(format!(
            "the caller wants an object, and rule {:?} of this function delivers events to Splunk: let it call another",
            rule.name
        )));
    }
    match &rule.deliver {
        // All are read before any is sent: a body that is wrong somewhere is not sent in part.
        Deliver::Hec(receiver) => {
            hec::send_all(&rule, receiver, &body.batches(call.task.created_time())?).await
        }
        deliver => deliver::object(deliver, call, object::make(&rule, call, &body)?).await,
    }
}

/// Tells what makes the objects of a rule, and where they go, if all that can be checked without logs is right.
///
/// # Errors
/// What is wrong: there is no such rule, it contradicts the caller, or its stages don't go together.
pub async fn describe(rule: &str, caller: Spec) -> Result<Delivered, Problem> {
    let rule = Rule::named(rule).await?.agreed(&caller)?;
    let stages = match &rule.deliver {
        Deliver::Hec(receiver) => hec::check(&rule, receiver)?,
        _ => {
            // A key of the length that real ones have.
            let task = TaskId { created: 1_900_000_000_000_000_000, number: 9_999_999 };
            object::check(&rule, &Call::of(&rule.name, task))?
        }
    };
    Ok(Delivered { facts: vec![(STAGES, stages), (DELIVERS, rule.deliver.name().to_owned())], object: None })
}
