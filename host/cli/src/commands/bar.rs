use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// Creates a progress bar for bytes, hidden if standard error is not a terminal.
pub(super) fn new(total: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
    let template = if total.is_some() {
        "{bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {msg}  {eta}"
    } else {
        "{spinner} {bytes}  {bytes_per_sec}  {msg}"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
