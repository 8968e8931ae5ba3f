//! The stage `object-path`: `PREFIX/PARTITION_ID` and the suffix, the key of an object.
//!
//! - PREFIX is the rule's, with or without a `/` at its end; without a prefix there is no `/`.
//! - PARTITION is the partition format rendered at the partition time, in the rule's time zone; a
//!   `/` in it makes a level. Without a partition format the id stands alone, without a `_`.
//! - ID is the task's, `CREATION-NS_NUMBER`.
//!
//! # Partition format
//! As `strptime` reads it, with English names and every number padded with zeroes:
//!
//! | | |
//! |---|---|
//! | `%Y` `%C` `%y` | year, its first two digits, its last two |
//! | `%m` `%B` `%b` `%h` | month: 01-12, name, short name (twice) |
//! | `%d` `%j` | day: 01-31, 001-366 |
//! | `%F` | `%Y-%m-%d` |
//! | `%a` `%A` `%u` `%w` | day of the week: short name, name, 1-7 from Monday, 0-6 from Sunday |
//! | `%U` `%W` | week: 00-53 from Sunday, from Monday |
//! | `%G` `%g` `%V` | ISO 8601: year, its last two digits, week |
//! | `%H` `%I` `%p` | hour: 00-23, 01-12, AM or PM |
//! | `%M` `%S` `%s` | minute, second, second again (not the Unix time) |
//! | `%z` `%%` | offset from UTC such as `+0800`, a percent sign |
//!
//! Everything else behind a `%` is refused. That includes what renders spaces or slashes of its own
//! (`%e`, `%c`, `%D`), and what systems disagree on (`%f`, `%Z`).
//!
//! # What a key may be
//! At most 1,023 bytes, no `/` or `\` at its beginning, no empty, `.` or `..` level, no control
//! character: what object stores refuse, or would confuse tools that take a key for a path.
//!
//! - [`config`](Config): nothing to choose.
//! - `partition`: the partition format.
//! - [`renderer`](PathRenderer): the key.

mod config;
mod partition;
mod renderer;

pub use config::Config;
pub use renderer::PathRenderer;

logship_stage::export_renderer!(PathRenderer);
