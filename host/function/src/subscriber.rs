//! Redis triggers.

use std::time::Duration;

use crate::runtime::Function;

/// How long to wait before a server is asked again that is not there: at first, and at most. Each time twice as long.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Gives a function the messages of a channel, for ever. One after the other: a batch is much work, and Redis keeps
/// what waits. What a function makes of a message is told in the log; Redis hears nothing of it. That no Redis answers
/// is told once.
pub async fn subscribe(client: redis::Client, channel: &str, function: &Function) {
    let server = client.get_connection_info().addr().to_string();
    let mut pause = FIRST;
    loop {
        let mut subscribed = false;
        let ended = messages(&client, channel, function, &mut subscribed).await;
        let error =
            ended.err().map_or_else(|| "it ended the connection".to_owned(), |error| error.to_string());
        if subscribed {
            pause = FIRST;
        }
        if pause == FIRST {
            let hint = "no messages come, and what is announced now is lost; Redis is tried again and again";
            tracing::warn!(server, channel, error, "{hint}");
        } else {
            tracing::debug!(server, channel, error, "still no Redis");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
    }
}

async fn messages(
    client: &redis::Client,
    channel: &str,
    function: &Function,
    subscribed: &mut bool,
) -> redis::RedisResult<()> {
    use futures_util::StreamExt as _;
    let mut subscription = client.get_async_pubsub().await?;
    subscription.subscribe(channel).await?;
    *subscribed = true;
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
