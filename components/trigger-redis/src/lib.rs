//! A function that ships the batches that are announced on a channel of Redis.
//!
//! A message is a JSON object: `rule`, the headers of a call (`x-logship-task`, `x-logship-shard` …), and either `url`,
//! where the batch is to be had by GET, or `body`, the batch itself in base64, with `content-type` and, if it is
//! compressed, `content-encoding`. docs/serverless.md has examples.

use anyhow::{Result, bail};
use logship_trigger::announcement::Announcement;
use spin_sdk::redis_subscriber;

#[redis_subscriber]
async fn announced(message: Vec<u8>) -> Result<()> {
    let shipped = async { Announcement::read(&message)?.ship().await }.await;
    match shipped {
        Ok(delivered) => {
            let facts: Vec<_> =
                delivered.facts.iter().map(|(name, value)| format!("{name}={value}")).collect();
            println!("shipped {}", facts.join(" "));
            Ok(())
        }
        // Redis keeps no message: whoever announces looks for what was shipped, and announces again.
        Err(problem) => bail!("{}: {problem}", problem.kind),
    }
}
