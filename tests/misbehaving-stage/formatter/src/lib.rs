//! A formatter that misbehaves as configured.

use std::cell::RefCell;

use logship_stage::bindings::formatter::exports::logship::siem::formatter as wit;
use logship_stage::{Batch, JsonSchema, LogBatch, Result, config};

#[derive(Clone, Copy, PartialEq, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[schemars(crate = "logship_stage::schemars")]
enum Act {
    /// Returns an empty event for each log.
    Behave,
    /// Returns ends beyond the bytes.
    EndsBeyond,
    /// Returns decreasing ends.
    EndsThatFall,
    /// Returns one message less than there are logs.
    TooFew,
    /// Returns log indexes outside the batch.
    LogsBeyond,
    /// Returns decreasing log indexes.
    LogsThatFall,
    /// Appends a line feed to each message.
    LineFeeds,
    /// Returns messages that are not JSON.
    NoJson,
    /// Returns messages without an event.
    NoEvent,
    /// Returns no messages after a rejected batch.
    Sulk,
    /// Accepts invalid batches.
    Trust,
}

#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "logship_stage::schemars")]
struct Config {
    /// The misbehavior.
    #[serde(default = "behave")]
    act: Act,
}

fn behave() -> Act {
    Act::Behave
}

struct Component;

struct Session(RefCell<State>);

struct State {
    act: Act,
    has_rejected: bool,
}

impl wit::Guest for Component {
    type Session = Session;

    fn describe() -> wit::Description {
        wit::Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            transport: wit::Transport::Hec,
            config_schema: config::schema::<Config>(),
        }
    }
}

impl wit::GuestSession for Session {
    fn open(text: String) -> Result<wit::Session, wit::Error> {
        let act = config::parse::<Config>(&text)?.act;
        Ok(wit::Session::new(Self(RefCell::new(State { act, has_rejected: false }))))
    }

    fn push(&self, batch: LogBatch) -> Result<wit::Messages, wit::Error> {
        let state = &mut *self.0.borrow_mut();
        let logs = batch.times.len();
        if state.act != Act::Trust {
            state.has_rejected |= Batch::new(batch.clone()).is_err();
            Batch::new(batch)?;
        }
        Ok(state.messages(logs as u32))
    }
}

impl State {
    fn messages(&self, logs: u32) -> wit::Messages {
        let message: &[u8] = match self.act {
            Act::LineFeeds => b"{\"event\":{}}\n",
            Act::NoJson => b"event",
            Act::NoEvent => b"{\"time\":1}",
            _ => b"{\"event\":{}}",
        };
        let length = message.len() as u32;
        let bytes = message.repeat(logs as usize);
        let mut ends: Vec<u32> = (1..=logs).map(|number| number * length).collect();
        let mut origins = vec![];
        match self.act {
            Act::EndsBeyond => ends.iter_mut().for_each(|end| *end += 1),
            Act::EndsThatFall => ends.reverse(),
            Act::TooFew if logs > 1 => drop(ends.remove(0)),
            Act::LogsBeyond => origins = (1..=logs).collect(),
            Act::LogsThatFall => origins = (0..logs).rev().collect(),
            Act::Sulk if self.has_rejected => {
                return wit::Messages { bytes: vec![], ends: vec![], logs: vec![] };
            }
            _ => {}
        }
        wit::Messages { bytes, ends, logs: origins }
    }
}

#[cfg(target_arch = "wasm32")]
mod component {
    type Component = super::Component;
    logship_stage::bindings::formatter::export_formatter_world!(
        Component with_types_in logship_stage::bindings::formatter
    );
}
