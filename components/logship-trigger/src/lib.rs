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
//! - [`deliver`]: where the bytes go; [`s3`], [`hec`].
//! - [`problem`]: what went wrong, for the caller.
//!
//! [`ship`] is all of it.
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
pub mod hec;
pub mod object;
pub mod problem;
pub mod rule;
pub mod s3;
pub mod stages;

use body::Body;
use call::Call;
use deliver::Delivered;
use problem::Problem;
use rule::{Deliver, Rule};

/// Makes what the rule asks for of a batch, and delivers it.
///
/// # Errors
/// What is wrong, and whether trying again can help.
pub async fn ship(call: &Call, body: Body) -> Result<Delivered, Problem> {
    let rule = Rule::named(&call.rule).await?;
    let batches = body.batches(call.task.created_time())?;
    match &rule.deliver {
        Deliver::Hec(receiver) => hec::send_all(&rule, receiver, &batches).await,
        deliver => deliver::object(deliver, call, object::make(&rule, call, &batches)?).await,
    }
}
