use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar for bytes on the terminal; where there is none, nothing.
pub(super) fn new(total: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
    let shape = if total.is_some() {
        "{bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {msg}  {eta}"
    } else {
        "{spinner} {bytes}  {bytes_per_sec}  {msg}"
    };
    if let Ok(style) = ProgressStyle::with_template(shape) {
        bar.set_style(style);
    }
    bar
}
