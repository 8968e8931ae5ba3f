//! A subscriber for Redis triggers.

use std::time::Duration;

use crate::runtime::Function;

/// The initial and the maximum delay before a reconnection. The delay doubles at each failure.
const INITIAL_RETRY_DELAY: Duration = Duration::from_secs(1);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(60);

/// Calls a function with each message of a channel, forever. Handles one message at a time, as a batch is much work and
/// Redis buffers further messages. Logs the result of each call; Redis gets no acknowledgement. Logs a lost connection
/// once, not at each retry.
pub async fn subscribe(client: redis::Client, channel: &str, function: &Function) {
    let server = client.get_connection_info().addr().to_string();
    let mut retry_delay = INITIAL_RETRY_DELAY;
    loop {
        let mut subscribed = false;
        let result = receive_messages(&client, channel, function, &mut subscribed).await;
        let error =
            result.err().map_or_else(|| "Redis closed the connection".to_owned(), |error| error.to_string());
        if subscribed {
            retry_delay = INITIAL_RETRY_DELAY;
        }
        if retry_delay == INITIAL_RETRY_DELAY {
            let hint = "not subscribed to Redis: messages published now are lost; the connection is retried";
            tracing::warn!(server, channel, error, "{hint}");
        } else {
            tracing::debug!(server, channel, error, "Redis is still unavailable");
        }
        tokio::time::sleep(retry_delay).await;
        retry_delay = (retry_delay * 2).min(MAX_RETRY_DELAY);
    }
}

async fn receive_messages(
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
        match function.handle_message(message.get_payload_bytes().to_vec()).await {
            Ok(()) => tracing::info!(channel, "handled a message"),
            Err(error) => tracing::error!(channel, %error, "handling a message failed"),
        }
    }
    Ok(())
}
