//! MaxCompute: rows go to a table through Tunnel's upload sessions. They are visible once the session is committed.
//!
//! | step | call |
//! |---|---|
//! | open a session on a partition | [`MaxCompute::create_session`] |
//! | upload blocks, in any order and again | [`MaxCompute::put_block`] |
//! | commit all at once | [`MaxCompute::commit`] |
//!
//! - `config`, `client`, `error`, `sink`: as in every sink. `signer`: signatures of both versions. `keys`: credentials.
//! - [`table`]: names and schemas of tables. [`session`]: upload sessions. [`sql`]: statements such as `CREATE TABLE`.
//! - `retry`: the delays between attempts. `block`: bodies of blocks.

mod block;
mod client;
mod config;
pub mod error;
mod keys;
mod retry;
pub mod session;
mod signer;
mod sink;
pub mod sql;
pub mod table;

pub use self::config::{check_name, open};
pub use self::error::{Class, MaxComputeError};
pub use self::session::{CommitOutcome, MAX_BLOCKS, SessionStatus, UploadSession};
pub use self::sink::MaxCompute;
pub use self::table::{TableColumn, TableRef, TableSchema};
