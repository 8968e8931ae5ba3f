use wasmtime::component::{Instance, InstancePre};
use wasmtime::{AsContextMut, Store};

use crate::bindings::losses::exports::logship::losses::losses::Loss as RawLoss;
use crate::bindings::losses::{Losses, LossesPre};
use crate::guest::Guest;

/// The lost values of a column: values of logs that are not in the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The column, or the key of the field.
    pub column: String,
    /// The number of lost values.
    pub count: u64,
    /// The first lost value, or its beginning.
    pub example: String,
    /// The reason, as the end of a sentence about the value.
    pub reason: String,
}

/// The longest text of a loss, in characters. A stage may return longer ones.
const MAX_TEXT: usize = 200;

/// A stage's exports, with the optional report of lost values.
pub(super) struct Reporting<B> {
    pub(super) exports: B,
    losses: Option<Losses>,
}

/// Returns true if a component reports lost values.
pub(super) fn reports_losses(pre: &InstancePre<Guest>) -> bool {
    LossesPre::new(pre.clone()).is_ok()
}

impl<B> Reporting<B> {
    /// Instantiates a component. `exports` looks up its main exports.
    pub(super) fn instantiate(
        store: &mut Store<Guest>,
        pre: &InstancePre<Guest>,
        reports_losses: bool,
        exports: impl FnOnce(&mut Store<Guest>, &Instance) -> wasmtime::Result<B>,
    ) -> wasmtime::Result<Self> {
        let instance = pre.instantiate(store.as_context_mut())?;
        let exports = exports(store, &instance)?;
        let losses = reports_losses.then(|| Losses::new(store, &instance)).transpose()?;
        Ok(Self { exports, losses })
    }

    /// Adds what was lost since the last call to `losses`.
    pub(super) fn report(&self, store: &mut Store<Guest>, losses: &mut Vec<Loss>) -> wasmtime::Result<()> {
        if let Some(report) = &self.losses {
            losses.extend(report.logship_losses_losses().call_take(store)?.into_iter().map(Loss::from));
        }
        Ok(())
    }
}

impl From<RawLoss> for Loss {
    fn from(RawLoss { column, count, example, reason }: RawLoss) -> Self {
        let short = |text: String| match text.char_indices().nth(MAX_TEXT) {
            Some((end, _)) => text[..end].to_owned(),
            None => text,
        };
        Self { column: short(column), count, example: short(example), reason: short(reason) }
    }
}
