use std::io::Write;
use std::sync::Arc;

use wasmtime::component::ResourceAny;

use crate::conformance::Settings;
use crate::conformance::batches;
use crate::conformance::contract;
use crate::conformance::encoder::{refuses_broken, takes_hostile};
use crate::conformance::members;
use crate::conformance::stream::{Baseline, Chunk, ChunkedInstance, Stream};
use crate::conformance::suite::{At, Problem, Suite};
use logship_batch::batch::LogBatch;
use logship_runtime::stage::{FormatterInstance, FormatterStage, Messages, StageError, Transport};

impl ChunkedInstance for FormatterInstance {
    type Chunk = LogBatch;
    const CAN_RESTART: bool = true;

    fn open(&mut self, config: &str) -> Result<ResourceAny, StageError> {
        self.open(config)
    }

    /// Returns the messages, each after the number of its log.
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
        self.discard(session)?;
        Ok((vec![], vec![]))
    }

    fn discard(&mut self, session: ResourceAny) -> Result<(), StageError> {
        self.discard(session)
    }

    fn memory(&self) -> usize {
        self.memory()
    }
}

/// Returns the messages, each with the index of its log in the batch.
fn each(messages: &Messages) -> impl Iterator<Item = (usize, &[u8])> {
    let begins = std::iter::once(0).chain(messages.ends.iter().copied());
    begins.zip(&messages.ends).enumerate().map(|(number, (begin, &end))| {
        let log = messages.logs.get(number).map_or(number, |&log| log as usize);
        (log, &messages.bytes[begin as usize..end as usize])
    })
}

/// Checks a formatter and compares it with the built-in one of the same transport.
pub(super) fn check(
    suite: &mut Suite,
    stage: &FormatterStage,
    config: &str,
    built_in: &Arc<FormatterStage>,
    settings: &Settings,
) {
    let ordinary = batches::access_logs(16_000);
    let chunks = ordinary.cut(2_000);
    let (new_instance, other) = (|| stage.instance(), || built_in.instance());
    let mut stream = Stream::new(suite, config, &new_instance);
    stream.stays_within_limits(&chunks);
    stream.finishes_without_a_chunk();
    let all_logs = takes_hostile(&mut stream);
    refuses_broken(&mut stream);
    continues_after_rejection(&mut stream, &all_logs);
    members::check(stream.suite, |batch| {
        let mut instance = stage.instance()?;
        let session = instance.open(config)?;
        let messages = instance.push(session, batch)?;
        Ok(each(&messages).map(|(_, message)| message.to_vec()).collect())
    });
    matches_its_transport(&mut stream, stage.description().transport, &all_logs);
    stream.gives_the_same_bytes(all_logs.clone(), &[all_logs.len(), 1, 7, 1_000]);
    stream.keeps_memory_flat(&ordinary, settings.chunks);
    let baseline = Baseline { name: built_in.identity().name(), config: "", new_instance: &other };
    stream.is_fast(&chunks, &baseline, settings);
}

/// Checks that a session accepts further batches after it rejected one.
pub(super) fn continues_after_rejection<R: ChunkedInstance<Chunk = LogBatch>>(
    stream: &mut Stream<'_, R>,
    all_logs: &LogBatch,
) {
    let (config, new_instance) = (stream.config, stream.new_instance);
    stream.suite.check("goes-on-after-a-refusal", contract::BROKEN, || {
        let mut instance = new_instance()?;
        let session = instance.open(config)?;
        let before = instance.push(session, all_logs, 0)?;
        let mut broken = all_logs.clone();
        broken.value_ends[0] = u32::MAX;
        if instance.push(session, &broken, 0).is_ok() {
            return Err(Problem::new("value-ends beyond the values: taken"));
        }
        let after = instance.push(session, all_logs, 0).at(|| "a valid batch after a rejected one".into())?;
        crate::conformance::stream::same(&before, &after, || {
            "the same batch before and after a rejection".into()
        })?;
        Ok("the same output for a batch before and after the rejection".into())
    });
}

/// Checks the messages against the rules of the transport.
fn matches_its_transport(
    stream: &mut Stream<'_, FormatterInstance>,
    transport: Transport,
    all_logs: &LogBatch,
) {
    let (config, new_instance) = (stream.config, stream.new_instance);
    stream.suite.check("adds-no-separator", contract::NO_SEPARATOR, || {
        let mut instance = new_instance()?;
        let session = instance.open(config)?;
        let messages = instance.push(session, all_logs)?;
        for (log, message) in each(&messages) {
            if message.is_empty() || message.contains(&b'\n') {
                return Err(of_log(all_logs, log, message, "is empty, or has a line feed in it"));
            }
        }
        Ok(format!("{} messages", messages.ends.len()))
    });
    let (check, sentence) = match transport {
        Transport::Hec => ("makes-events", contract::HEC),
        Transport::Syslog => ("makes-syslog-messages", contract::SYSLOG),
    };
    stream.suite.check(check, sentence, || {
        let mut instance = new_instance()?;
        let session = instance.open(config)?;
        let messages = instance.push(session, all_logs)?;
        for (log, message) in each(&messages) {
            let problem = match transport {
                Transport::Hec => event_problem(message),
                Transport::Syslog => priority_problem(message),
            };
            if let Some(problem) = problem {
                return Err(of_log(all_logs, log, message, &problem));
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

/// Returns the reason why a message is not an event of the HTTP Event Collector, if any.
fn event_problem(message: &[u8]) -> Option<String> {
    match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(message) {
        Ok(event) if event.contains_key("event") => None,
        Ok(_) => Some("has no member `event`".into()),
        Err(error) => Some(format!("is not a JSON object: {error}")),
    }
}

/// Returns the reason why a message is not a syslog message, if any. It must begin with a priority of 0 to
/// 191.
fn priority_problem(message: &[u8]) -> Option<String> {
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
    fn detects_invalid_messages() {
        assert_eq!(event_problem(br#"{"event":{}}"#), None);
        assert!(
            event_problem(br#"{"time":1}"#).is_some()
                && event_problem(b"{").is_some()
                && event_problem(b"[]").is_some()
        );
        assert_eq!((priority_problem(b"<0>"), priority_problem(b"<191>1 -")), (None, None));
        for message in ["", "<192>1", "<>", "<1", "1 -", "<-1>", "<1000>"] {
            assert!(priority_problem(message.as_bytes()).is_some(), "{message}");
        }
    }
}
