use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::Failure;
use crate::input::RecordOptions;
use logship_batch::parser::Expected;

/// The files to read, and their format.
#[derive(Debug, Args)]
pub(super) struct InputOptions {
    /// Files, directories, or - for standard input. Compressed files (gzip, zstd) and UTF-16 are recognized by their
    /// content. All files of a directory are read, whatever their names, except hidden ones and those that begin with _.
    /// A copy that log rotation keeps for a while (app.log.1 and app.log.1.gz, app.log and app.log.1) is read once, if
    /// the contents are equal, or one is the beginning of the other.
    #[arg(value_name = "INPUT")]
    pub(super) paths: Vec<PathBuf>,
    /// The format of the logs.
    #[arg(long = "input", value_name = "FORMAT", value_enum, default_value_t, help_heading = "Logs")]
    input_format: InputFormat,
    /// The field for the lines of --input text.
    #[arg(long, value_name = "FIELD", default_value = "message", help_heading = "Logs")]
    text_field: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum InputFormat {
    /// JSON objects: one per line, end to end, in an array, or over several lines.
    #[default]
    Json,
    /// Lines of text, each a log with one field and the current time.
    Text,
    /// CSV: the first row has the names of the fields. The delimiter is a comma, tab, semicolon or |.
    Csv,
    /// JSON, CSV or text, as each file looks like.
    Auto,
}

impl InputOptions {
    /// Returns the name of the format, for reports.
    pub(super) fn format_name(&self) -> &'static str {
        match self.input_format {
            InputFormat::Json => "NDJSON",
            InputFormat::Text => "text",
            InputFormat::Csv => "CSV",
            InputFormat::Auto => "input",
        }
    }

    /// Returns true if another format may suit rejected lines. Without a log, the error names it.
    pub(super) fn may_differ(&self, logs: u64) -> bool {
        logs > 0 && matches!(self.input_format, InputFormat::Json)
    }

    /// Returns the options of records. `max_record` is the largest record that can become a log.
    ///
    /// # Errors
    /// Fails if a field with the time is configured for text.
    pub(super) fn records(
        &self,
        time_field: Option<&str>,
        max_record: usize,
    ) -> Result<RecordOptions, Failure> {
        let expected = match self.input_format {
            InputFormat::Json => Expected::Json,
            InputFormat::Text => Expected::Text,
            InputFormat::Csv => Expected::Csv,
            InputFormat::Auto => Expected::Auto,
        };
        if let (Expected::Text, Some(_)) = (expected, time_field) {
            return Err("--time-field needs fields, and --input text has none: omit one of them".into());
        }
        Ok(RecordOptions { expected, text_field: Arc::from(self.text_field.as_str()), max_record })
    }
}
