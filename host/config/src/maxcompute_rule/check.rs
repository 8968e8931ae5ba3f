//! Checks of rules of MaxCompute that need no service.

use super::{MaxComputeRule, PARTITION_TIME};
use crate::limit::{MAXCOMPUTE_TIME_SECONDS, ROWS_SIZE_MB};
use crate::rule::{RuleError, check_name, check_range, check_source, check_transforms};

/// The longest name of a table or column.
const MAX_NAME_BYTES: usize = 128;

/// The most partition columns of a table.
const MAX_PARTITION_COLUMNS: usize = 6;

impl MaxComputeRule {
    /// Checks the rule without the service.
    ///
    /// # Errors
    /// [`RuleError::Field`], for the first invalid field.
    pub fn check(&self) -> Result<(), RuleError> {
        check_name(&self.name)?;
        check_range("size_mb", self.size_mb, ROWS_SIZE_MB, "MB")?;
        check_range("time_seconds", self.time_seconds, MAXCOMPUTE_TIME_SECONDS, "seconds")?;
        if let Some(connection) = check_source(&self.source, self.connection.as_ref(), "MaxCompute")? {
            if connection.endpoint.is_empty() {
                return Err(RuleError::field("connection", "endpoint is missing"));
            }
            check_table("connection.project", &connection.project)?;
        }
        check_table("table", &self.table)?;
        if !self.fields.is_empty() && !self.columns.is_empty() {
            return Err(RuleError::field("fields", "is set besides `columns`: remove one of them"));
        }
        self.check_partition()?;
        check_transforms(&self.transform)
    }

    fn check_partition(&self) -> Result<(), RuleError> {
        if self.partition.len() > MAX_PARTITION_COLUMNS {
            let problem = format!("a table has at most {MAX_PARTITION_COLUMNS} partition columns");
            return Err(RuleError::field("partition", problem));
        }
        if self.partition.iter().any(String::is_empty) {
            return Err(RuleError::field("partition", "has an empty field"));
        }
        if self.partition_seconds == 0 {
            return Err(RuleError::field("partition_seconds", "is 0: use 1800 or 3600"));
        }
        if self.partition.iter().any(|field| field == PARTITION_TIME) {
            let wrong = |error| RuleError::field("partition_time_format", error);
            self.partition_format().map_err(wrong)?;
        }
        Ok(())
    }
}

fn check_table(field: &'static str, name: &str) -> Result<(), RuleError> {
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(is_name_byte) {
        return Ok(());
    }
    let problem = format!("{name:?} is not a name: use 1-{MAX_NAME_BYTES} letters, digits and _");
    Err(RuleError::field(field, problem))
}
