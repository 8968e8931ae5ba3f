use std::io::Write;
use std::sync::Arc;

use wasmtime::component::ResourceAny;

use super::Settings;
use super::batches;
use super::contract;
use super::encoder::{refuses_broken, takes_hostile};
use super::stream::{Beside, Chunk, Running, Stream};
use super::suite::{At, Problem, Suite};
use crate::batch::LogBatch;
use crate::stage::{FormatterInstance, FormatterStage, Messages, StageError, Transport};

impl Running for FormatterInstance {
    type Chunk = LogBatch;
    const MOVES: bool = true;

    fn open(&mut self, config: &str) -> Result<ResourceAny, StageError> {
        self.open(config)
    }

    /// Messages, each behind the number of its log.
    fn push(&mut self, session: ResourceAny, batch: &LogBatch, first: usize) -> Result<Vec<u8>, StageError> {
        let messages = self.push(session, batch)?;
        let mut out = Vec::with_capacity(messages.bytes.len() + 16 * messages.ends.len());
        for (log, message) in each(&messages) {
            write!(out, "{} ", first + log).expect("memory is written to");
            out.extend_from_slice(message);
            out.push(b'\n');
        }
        Ok(out)
    }

    fn finish(&mut self, session: ResourceAny) -> Result<(Vec<u8>, Vec<u8>), StageError> {
        self.give_up(session)?;
        Ok((vec![], vec![]))
    }

    fn give_up(&mut self, session: ResourceAny) -> Result<(), StageError> {
        self.give_up(session)
    }

    fn memory(&self) -> usize {
        self.memory()
    }
}

/// The messages, each with the index of its log in the batch.
fn each(messages: &Messages) -> impl Iterator<Item = (usize, &[u8])> {
    let begins = std::iter::once(0).chain(messages.ends.iter().copied());
    begins.zip(&messages.ends).enumerate().map(|(number, (begin, &end))| {
        let log = messages.logs.get(number).map_or(number, |&log| log as usize);
        (log, &messages.bytes[begin as usize..end as usize])
    })
}

/// The checks of a formatter, beside the built-in one of the same transport.
pub(super) fn check(
    suite: &mut Suite,
    stage: &FormatterStage,
    config: &str,
    built_in: &Arc<FormatterStage>,
    settings: &Settings,
) {
    let ordinary = batches::access_logs(16_000);
    let chunks = ordinary.cut(2_000);
    let (fresh, other) = (|| stage.instance(), || built_in.instance());
    let mut stream = Stream::new(suite, config, &fresh);
    stream.keeps_to_its_room(&chunks);
    stream.takes_nothing();
    let whole = takes_hostile(&mut stream);
    refuses_broken(&mut stream);
    goes_on_after_a_refusal(&mut stream, &whole);
    suits_its_transport(&mut stream, stage.description().transport, &whole);
    stream.gives_the_same_bytes(whole.clone(), &[whole.len(), 1, 7, 1_000]);
    stream.keeps_memory_flat(&ordinary, settings.chunks);
    let beside = Beside { name: built_in.identity().name(), config: "", fresh: &other };
    stream.is_fast(&chunks, &beside, settings);
}

/// A session goes on with other batches when it refused one.
pub(super) fn goes_on_after_a_refusal<R: Running<Chunk = LogBatch>>(
    stream: &mut Stream<'_, R>,
    whole: &LogBatch,
) {
    let (config, fresh) = (stream.config, stream.fresh);
    stream.suite.check("goes-on-after-a-refusal", contract::BROKEN, || {
        let mut instance = fresh()?;
        let session = instance.open(config)?;
        let before = instance.push(session, whole, 0)?;
        let mut broken = whole.clone();
        broken.value_ends[0] = u32::MAX;
        if instance.push(session, &broken, 0).is_ok() {
            return Err(Problem::new("value-ends beyond the values: taken"));
        }
        let after =
            instance.push(session, whole, 0).at(|| "a good batch behind one that it refused".into())?;
        super::stream::same(&before, &after, || "the same batch before and behind a refusal".into())?;
        Ok("the same for the same batch, before and behind".into())
    });
}

/// What its transport asks of each message.
fn suits_its_transport(stream: &mut Stream<'_, FormatterInstance>, transport: Transport, whole: &LogBatch) {
    let (config, fresh) = (stream.config, stream.fresh);
    stream.suite.check("adds-no-separator", contract::NO_SEPARATOR, || {
        let mut instance = fresh()?;
        let session = instance.open(config)?;
        let messages = instance.push(session, whole)?;
        for (log, message) in each(&messages) {
            if message.is_empty() || message.contains(&b'\n') {
                return Err(of_log(whole, log, message, "is empty, or has a line feed in it"));
            }
        }
        Ok(format!("{} messages", messages.ends.len()))
    });
    let (check, sentence) = match transport {
        Transport::Hec => ("makes-events", contract::HEC),
        Transport::Syslog => ("makes-syslog-messages", contract::SYSLOG),
    };
    stream.suite.check(check, sentence, || {
        let mut instance = fresh()?;
        let session = instance.open(config)?;
        let messages = instance.push(session, whole)?;
        for (log, message) in each(&messages) {
            let problem = match transport {
                Transport::Hec => no_event(message),
                Transport::Syslog => no_priority(message),
            };
            if let Some(problem) = problem {
                return Err(of_log(whole, log, message, &problem));
            }
        }
        Ok(format!("{} messages", messages.ends.len()))
    });
}

fn of_log(batch: &LogBatch, log: usize, message: &[u8], problem: &str) -> Problem {
    let log: Vec<_> = batch
        .log_fields(log)
        .map(|(key, value)| format!("{key:?}: \"{}\"", value.escape_ascii()))
        .take(4)
        .collect();
    let start = message[..message.len().min(80)].escape_ascii();
    Problem::new(format!("the message \"{start}\" of the log {{{}}} {problem}", log.join(", ")))
}

/// What makes it no event of the HTTP Event Collector.
fn no_event(message: &[u8]) -> Option<String> {
    match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(message) {
        Ok(event) if event.contains_key("event") => None,
        Ok(_) => Some("has no member `event`".into()),
        Err(error) => Some(format!("is no JSON object: {error}")),
    }
}

/// What makes it no syslog message: it begins with a priority of 0 to 191.
fn no_priority(message: &[u8]) -> Option<String> {
    let text = message.strip_prefix(b"<").unwrap_or_default();
    let digits = text.iter().take(4).position(|&byte| byte == b'>').map(|end| &text[..end]);
    let priority = digits.and_then(|digits| str::from_utf8(digits).ok()?.parse::<u8>().ok());
    match priority {
        Some(0..=191) => None,
        _ => Some("does not begin with a priority from <0> to <191>".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_from_what_is_none() {
        assert_eq!(no_event(br#"{"event":{}}"#), None);
        assert!(
            no_event(br#"{"time":1}"#).is_some() && no_event(b"{").is_some() && no_event(b"[]").is_some()
        );
        assert_eq!((no_priority(b"<0>"), no_priority(b"<191>1 -")), (None, None));
        for message in ["", "<192>1", "<>", "<1", "1 -", "<-1>", "<1000>"] {
            assert!(no_priority(message.as_bytes()).is_some(), "{message}");
        }
    }
}
