//! Stage aliases: their versions, the version that each points to, and the history of changes.
//!
//! The database refers to components by digest. Callers store the components themselves, and do so before they add a
//! version.

mod alias;
mod change;
mod event;

pub use alias::{StageAlias, StageAliases, StageVersion};
pub use change::{NewStageVersion, StageChange, StageTarget};
pub use event::{StageAction, StageEvent};
