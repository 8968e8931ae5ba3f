//! Redis triggers.

use std::time::Duration;

use crate::runtime::Function;

/// How long to wait before a server is asked again that is not there.
const PAUSE: Duration = Duration::from_secs(1);

/// Gives a function the messages of a channel, for ever. One after the other: a batch is much work, and Redis keeps
/// what waits. What a function makes of a message is told in the log; Redis hears nothing of it.
pub async fn subscribe(client: redis::Client, channel: &str, function: &Function) {
    loop {
        if let Err(error) = messages(&client, channel, function).await {
            tracing::warn!(channel, %error, "no messages come: Redis does not answer; messages of now are lost");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn messages(client: &redis::Client, channel: &str, function: &Function) -> redis::RedisResult<()> {
    use futures_util::StreamExt as _;
    let mut subscription = client.get_async_pubsub().await?;
    subscription.subscribe(channel).await?;
    tracing::info!(channel, "subscribed");
    let mut messages = subscription.into_on_message();
    while let Some(message) = messages.next().await {
        match function.take(message.get_payload_bytes().to_vec()).await {
            Ok(()) => tracing::info!(channel, "a message was taken"),
            Err(error) => tracing::error!(channel, %error, "a message came to nothing"),
        }
    }
    Ok(())
}
