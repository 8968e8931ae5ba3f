//! The stage `object-path`: makes the key of an object, `PREFIX/PARTITION_ID` followed by the suffix.
//!
//! - PREFIX is the rule's prefix, with or without a final `/`. Without a prefix, the `/` is omitted.
//! - PARTITION is the partition time rendered by the partition format, in the rule's time zone. A `/` in it separates
//!   levels. Without a partition format, the `_` is omitted.
//! - ID is the task's id, `CREATION-NS_NUMBER`.
//!
//! # Partition format
//! The specifiers are those of `strptime`, with English names and zero-padded numbers:
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
//! Other specifiers are rejected. They include those that render spaces or slashes (`%e`, `%c`, `%D`), and those that
//! differ between systems (`%f`, `%Z`).
//!
//! # Valid keys
//! A key has at most 1,023 bytes, no leading `/` or `\`, no empty, `.` or `..` level, and no control characters.
//! Object stores reject other keys, or tools that treat keys as paths fail on them.
//!
//! - [`config`](Config): no settings.
//! - `partition`: renders the partition format.
//! - [`renderer`](PathRenderer): makes the key.

mod config;
mod partition;
mod renderer;

pub use config::Config;
pub use renderer::PathRenderer;

logship_stage::export_renderer!(PathRenderer);
