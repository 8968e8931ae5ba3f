//! Prints what `logship ship` tells about columns: inferred ones, and values that have no place in them.

use indicatif::HumanCount;
use logship_config::rule::Rule;
use logship_logstore::{LostColumn, LostValues};
use serde_json::json;

use super::ship::count;
use crate::file_ship::Outcome;
use crate::file_ship::infer::Column;
use crate::print::{errln, outln};
use crate::table;

/// The largest number of keys in a warning, and of columns in the suggested option.
const MAX_LISTED: usize = 100;
const MAX_COLUMNS: usize = 2_000;

/// Prints the values that are not in the objects.
pub(super) fn print_lost(lost: &LostValues) {
    if lost.is_empty() {
        return;
    }
    let row = |(column, lost): (&String, &LostColumn)| {
        let LostColumn { count, example, reason } = lost;
        vec![column.clone(), HumanCount(*count).to_string(), format!("{example:?} {reason}")]
    };
    let rows = lost.columns.iter().map(row).collect();
    outln!("\n{}", table::render(&["column", "lost values", "the first one"], rows));
    errln!(
        "warning: {} of the logs {} not in the objects; the table has them by column. Other types in --columns keep them, or a column for them: --set rejects_column=NAME (Parquet). --strict stops at the first",
        count(lost.total, "value"),
        if lost.total == 1 { "is" } else { "are" },
    );
}

/// Prints inferred columns, and notes about omitted fields, tags and nanoseconds.
pub(super) fn print(outcome: &Outcome, rule: &Rule, inferred: &[Column]) {
    print_notes(outcome, rule, inferred);
    if inferred.is_empty() {
        return;
    }
    // A text holds every value, also of the fields that occurred later.
    let type_of = |column: &Column| match outcome.lost.columns.contains_key(&column.key) {
        true => "string",
        false => column.type_name,
    };
    let known = inferred.iter().map(|column| (&column.key, type_of(column)));
    let columns = known.chain(outcome.omitted.iter().map(|key| (key, "string")));
    let column = |(key, type_name): (&String, &str)| match rule.format.name.as_str() {
        "parquet" => format!("{key}:{type_name}"),
        _ => key.clone(),
    };
    let list: Vec<_> = columns.take(MAX_COLUMNS).map(column).collect();
    outln!(
        "Columns were inferred from the first lines of each file; to fix them, use --columns '{}'",
        list.join(",")
    );
    if !outcome.omitted.is_empty() {
        let list: Vec<_> = outcome.omitted.iter().take(MAX_LISTED).map(String::as_str).collect();
        let more = match outcome.omitted.len().saturating_sub(MAX_LISTED) {
            0 => String::new(),
            more => format!(", and {} more", HumanCount(more as u64)),
        };
        errln!("warning: fields of later lines have no column and were omitted: {}{more}", list.join(", "));
    }
}

/// Prints notes about tags and fractions of seconds that the objects lack.
fn print_notes(outcome: &Outcome, rule: &Rule, inferred: &[Column]) {
    let has_column = |key: &str| inferred.iter().any(|column| column.key == key);
    if !inferred.is_empty() && outcome.has_nanos && !has_column("__time_ns_part__") {
        errln!(
            "note: the logs have fractions of seconds, which no inferred column has; name the columns with --columns, and __time_ns_part__ among them"
        );
    }
    if rule.format.name != "json" || rule.stages.encoder.is_some() {
        return;
    }
    for (is_seen, setting, label) in
        [(outcome.has_tags, "tags", "tags"), (outcome.has_nanos, "nanos", "fractions of seconds")]
    {
        if is_seen && rule.format.settings.get(setting) != Some(&json!(true)) {
            errln!(
                "note: the logs have {label}, which JSON omits by default; --set {setting}=true includes them"
            );
        }
    }
}
