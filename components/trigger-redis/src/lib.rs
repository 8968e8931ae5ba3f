//! A function that ships the batches announced on a Redis channel.
//!
//! A message is a JSON object with `rule`, the headers of a call (`x-logship-task`, `x-logship-shard` …), `content-type`
//! and, for a compressed batch, `content-encoding`. It has either `url`, from which the batch is fetched by GET, or
//! `body`, the batch in base64. docs/serverless.md has examples.

use anyhow::{Result, bail};
use logship_trigger::announcement::Announcement;
use spin_sdk::redis_subscriber;

#[redis_subscriber]
async fn announced(message: Vec<u8>) -> Result<()> {
    let shipped = async { Announcement::read(&message)?.ship().await }.await;
    match shipped {
        Ok(delivered) => {
            let headers: Vec<_> =
                delivered.headers.iter().map(|(name, value)| format!("{name}={value}")).collect();
            println!("shipped {}", headers.join(" "));
            Ok(())
        }
        // Redis keeps no messages: the sender must check what was shipped and announce the batch again.
        Err(problem) => bail!("{}: {problem}", problem.kind),
    }
}
