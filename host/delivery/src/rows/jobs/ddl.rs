//! The statement that creates the table of a job.

use logship_config::job::mapping::ReaderColumn;
use logship_config::job::{Job, JobError};

/// The type of columns whose values are texts.
const TEXT: &str = "STRING";

/// Returns the statement that creates the table of a job: a column of text for each field, and one for each level of the
/// partition.
///
/// # Errors
/// If the script does not name the columns.
pub fn create_table(job: &Job, table: &str, partition: Option<&str>) -> Result<String, JobError> {
    let (reader, writer) = (&job.reader().column, &job.writer().column);
    if writer.iter().any(|column| column == "*") {
        let problem = "`*` means the columns of an existing table: name the columns to create one";
        return Err(JobError::member("writer.column", problem));
    }
    let column = |(index, name): (usize, &String)| {
        let kind = match reader.get(index) {
            Some(ReaderColumn::Field(key)) => column_type(key),
            _ => TEXT,
        };
        format!("  {} {kind}", quoted(name))
    };
    let columns: Vec<String> = writer.iter().enumerate().map(column).collect();
    let mut statement = format!("CREATE TABLE IF NOT EXISTS {} (\n{}\n)", quoted(table), columns.join(",\n"));
    let levels = partition.into_iter().flat_map(|partition| partition.split(','));
    let keys: Vec<String> = levels
        .filter_map(|level| level.split_once('='))
        .map(|(name, _)| format!("{} {TEXT}", quoted(name)))
        .collect();
    if !keys.is_empty() {
        statement.push_str(&format!("\nPARTITIONED BY ({})", keys.join(", ")));
    }
    Ok(statement)
}

/// Returns the type of a field: the times that each log has are numbers.
fn column_type(key: &str) -> &'static str {
    match key {
        "__time__" | "__receive_time__" => "BIGINT",
        _ => TEXT,
    }
}

fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}
