use std::collections::HashSet;

use logship_stage::mapping::{MappedColumn, Mapping, Values, field_value};
use logship_stage::rows::{Column, Description, DirtyValue, Positions, Rows, Table};
use logship_stage::{Batch, Error, Repeats, Result, RowEncoder, config};

use crate::columns::{BatchColumns, OtherColumns, Slot, column_name};
use crate::convert::DataType;
use crate::plain_buffer::{Name, Value, Writer};
use crate::{Config, Version};

/// The largest value of a key, of another column, and row, in bytes; and the most columns of a row.
const MAX_KEY_BYTES: usize = 1 << 10;
const MAX_VALUE_BYTES: usize = 2 << 20;
const MAX_ROW_BYTES: usize = 4 << 20;
const MAX_COLUMNS: usize = 1024;

/// Encodes logs as PlainBuffer rows.
#[derive(Debug)]
pub struct TableStoreRows {
    mapping: Mapping,
    /// The columns of the key, and then the other mapped ones.
    mapped: Vec<MappedName>,
    /// The number of columns of the key.
    keys: usize,
    others: OtherColumns,
    version: Version,
}

/// A mapped column.
#[derive(Debug)]
struct MappedName {
    text: String,
    name: Name,
    data_type: DataType,
    nullable: bool,
}

/// A value that makes its row dirty: the column, and the problem.
type Dirty = (String, String);

/// A batch, and what is known about it.
struct Input<'a> {
    batch: &'a Batch,
    values: Values<'a>,
    columns: BatchColumns,
    is_utf8: bool,
}

impl RowEncoder for TableStoreRows {
    fn describe() -> Description {
        Description {
            name: env!("CARGO_PKG_NAME").into(),
            version: env!("CARGO_PKG_VERSION").into(),
            protocols: vec!["tablestore".into()],
            config_schema: config::schema::<Config>(),
        }
    }

    fn open(text: &str, table: &Table) -> Result<Self> {
        let config: Config = config::parse(text)?;
        if table.key.is_empty() {
            return Err(Error::table("", "it has no primary key: Table Store needs 1-4 columns"));
        }
        let mapping = Mapping::new(&config.columns, table, |mapped, name| mapped == name)?;
        let key = table.key.iter().enumerate().map(|(index, column)| {
            if !mapping.is_mapped(index) {
                return Err(Error::table(
                    &column.name,
                    "is a column of the primary key and has no value: map it in `columns`",
                ));
            }
            let made = mapped_name(column, &config)?;
            match made.data_type {
                DataType::Double | DataType::Boolean => Err(Error::table(
                    &column.name,
                    "a column of the primary key is an integer, a string or binary",
                )),
                _ => Ok(made),
            }
        });
        let columns = table.columns.iter().map(|column| mapped_name(column, &config));
        let mapped: Vec<_> = key.chain(columns).collect::<Result<_>>()?;
        check_bases(&config, &mapped)?;
        let skipped = config.exclude.iter().cloned().chain(config.columns.iter().filter_map(used_key));
        let taken = mapped.iter().map(|column| column.text.clone()).collect();
        let others = OtherColumns::new(config.others, skipped.collect(), taken);
        Ok(Self { mapping, mapped, keys: table.key.len(), others, version: config.version })
    }

    fn push(&mut self, batch: &Batch, positions: &Positions) -> Result<Rows> {
        let once = Repeats::of(batch).map(|repeats| repeats.removed_from(batch));
        let batch = once.as_ref().unwrap_or(batch);
        let Self { mapping, mapped, keys, others, version } = self;
        let columns = others.of(batch);
        let input = Input {
            batch,
            values: mapping.read(batch, positions),
            columns,
            is_utf8: batch.values_are_utf8(),
        };
        let encoder = RowWriter { mapped, keys: *keys, others, version: *version };
        let mut writer = Writer::with_capacity(batch.raw().values.len() * 3 / 2 + batch.len() * 64);
        let mut rows =
            Rows { bytes: vec![], count: 0, ends: vec![], key_ends: vec![], logs: vec![], dirty: vec![] };
        for log in 0..batch.len() {
            match encoder.row(&input, log, &mut writer) {
                Ok((key_end, end)) => {
                    rows.key_ends.push(key_end);
                    rows.ends.push(end);
                    rows.logs.push(log as u32);
                }
                Err(problems) => {
                    writer.cancel();
                    let dirty = problems.into_iter();
                    rows.dirty.extend(dirty.map(|(column, reason)| DirtyValue {
                        log: log as u32,
                        column,
                        reason,
                    }));
                }
            }
        }
        rows.count = rows.ends.len() as u32;
        if rows.logs.len() == batch.len() {
            rows.logs.clear();
        }
        rows.bytes = writer.into_bytes();
        Ok(rows)
    }

    fn finish(self) -> Result<Vec<u8>> {
        Ok(vec![])
    }
}

fn mapped_name(column: &Column, config: &Config) -> Result<MappedName> {
    let name = &column.name;
    if column_name(name) != *name {
        let reason = "is no name of Table Store: use 1-255 letters, digits and _, with no digit first";
        return Err(Error::table(name, reason));
    }
    let base = config.bases.get(name).copied().unwrap_or(10);
    let data_type = DataType::parse(&column.data_type, base).ok_or_else(|| {
        let known = "integer, double, boolean, string or binary";
        Error::table(name, format!("unknown type {:?}; use {known}", column.data_type))
    })?;
    Ok(MappedName { text: name.clone(), name: Name::new(name), data_type, nullable: column.nullable })
}

fn check_bases(config: &Config, mapped: &[MappedName]) -> Result<()> {
    for (column, base) in &config.bases {
        let path = format!("bases.{column}");
        if !(2..=36).contains(base) {
            return Err(Error::config(path, format!("{base} is no base: use 2 to 36")));
        }
        let is_integer =
            |known: &MappedName| known.text == *column && matches!(known.data_type, DataType::Integer(_));
        if !mapped.iter().any(is_integer) {
            return Err(Error::config(path, "is no integer column of the table"));
        }
    }
    Ok(())
}

/// Returns the key that a mapped column uses.
fn used_key(column: &MappedColumn) -> Option<String> {
    let system = |name: &String| match name.strip_prefix("tag:") {
        Some(tag) => format!("__tag__:{tag}"),
        None => format!("__{name}__"),
    };
    column.field.clone().or_else(|| column.system.as_ref().map(system))
}

/// Writes the rows of a batch.
struct RowWriter<'a> {
    mapped: &'a [MappedName],
    keys: usize,
    others: &'a OtherColumns,
    version: Version,
}

impl RowWriter<'_> {
    /// Writes the row of a log. Returns the ends of its key and of itself.
    ///
    /// # Errors
    /// The values that do not convert. The row is written in part then.
    fn row(&self, input: &Input<'_>, log: usize, writer: &mut Writer) -> Result<(u32, u32), Vec<Dirty>> {
        let mut dirty = vec![];
        writer.begin();
        for column in 0..self.keys {
            self.mapped_cell(input, column, log, writer, &mut dirty);
        }
        let key_end = writer.end_key(self.timestamp(input, log));
        for column in self.keys..self.mapped.len() {
            self.mapped_cell(input, column, log, writer, &mut dirty);
        }
        self.other_cells(input, log, writer, &mut dirty);
        if writer.cells() > MAX_COLUMNS {
            dirty.push((
                String::new(),
                format!("{} columns are too many: a row has {MAX_COLUMNS}", writer.cells()),
            ));
        } else if writer.row_len() + 2 > MAX_ROW_BYTES {
            dirty.push((String::new(), format!("the row has more than {MAX_ROW_BYTES} bytes")));
        }
        if dirty.is_empty() { Ok((key_end, writer.end())) } else { Err(dirty) }
    }

    fn timestamp(&self, input: &Input<'_>, log: usize) -> Option<i64> {
        let raw = input.batch.raw();
        let nanos = || raw.nanos.get(log).copied().unwrap_or(0);
        match self.version {
            Version::Server => None,
            Version::LogTime => Some(i64::from(raw.times[log]) * 1000 + i64::from(nanos() / 1_000_000)),
        }
    }

    #[inline(always)]
    fn mapped_cell(
        &self,
        input: &Input<'_>,
        column: usize,
        log: usize,
        writer: &mut Writer,
        dirty: &mut Vec<Dirty>,
    ) {
        let MappedName { text, name, data_type, nullable } = &self.mapped[column];
        let (is_key, mut scratch) = (column < self.keys, String::new());
        match data_type.convert(input.values.value(column, log), input.is_utf8, &mut scratch) {
            Ok(Some(value)) => match too_long(value, if is_key { MAX_KEY_BYTES } else { MAX_VALUE_BYTES }) {
                None => writer.cell(name, value),
                Some(problem) => dirty.push((text.clone(), problem)),
            },
            Ok(None) if is_key => {
                dirty.push((text.clone(), "is missing, and the primary key needs it".into()))
            }
            Ok(None) if !nullable => {
                dirty.push((text.clone(), "is missing, and the column accepts no null".into()));
            }
            Ok(None) => {}
            Err(problem) => dirty.push((text.clone(), problem)),
        }
    }

    /// Writes the cells of fields and properties that the configuration does not map.
    #[inline(always)]
    fn other_cells(&self, input: &Input<'_>, log: usize, writer: &mut Writer, dirty: &mut Vec<Dirty>) {
        let Input { batch, columns, is_utf8, .. } = input;
        let raw = batch.raw();
        let fields = log.checked_sub(1).map_or(0, |before| raw.field_ends[before] as usize)
            ..raw.field_ends[log] as usize;
        let group = &columns.groups[raw.log_groups[log] as usize];
        // A batch has nanoseconds if one of its logs has: the row of a log must not depend on the other logs.
        let nanos =
            if raw.nanos.get(log).is_some_and(|&nanos| nanos > 0) { columns.nanos } else { Slot::None };
        if columns.may_collide {
            let fields = raw.field_keys[fields.clone()].iter().map(|key| columns.fields[*key as usize]);
            let slots = [columns.time, nanos].into_iter().chain(group.iter().map(|(slot, _)| *slot));
            if self.find_collisions(slots.chain(fields), dirty) {
                return;
            }
        }
        if let Slot::Column(column) = columns.time {
            writer.cell(self.others.name(column), Value::Integer(raw.times[log].into()));
        }
        if let Slot::Column(column) = nanos {
            writer.cell(self.others.name(column), Value::Integer(raw.nanos[log].into()));
        }
        for (slot, value) in group {
            self.text_cell(*slot, value.as_bytes(), true, writer, dirty);
        }
        for field in fields {
            let slot = columns.fields[raw.field_keys[field] as usize];
            self.text_cell(slot, field_value(raw, field), *is_utf8, writer, dirty);
        }
    }

    #[inline(always)]
    fn text_cell(
        &self,
        slot: Slot,
        value: &[u8],
        is_utf8: bool,
        writer: &mut Writer,
        dirty: &mut Vec<Dirty>,
    ) {
        let Slot::Column(column) = slot else { return };
        if value.len() <= MAX_VALUE_BYTES && (is_utf8 || str::from_utf8(value).is_ok()) {
            return writer.cell(self.others.name(column), Value::String(value));
        }
        let problem = too_long(Value::String(value), MAX_VALUE_BYTES);
        let problem = problem.unwrap_or_else(|| "is not UTF-8: map it with (->blob FIELD)".into());
        dirty.push((self.others.text(column).to_owned(), problem));
    }

    /// Finds columns that several keys of a log have. Returns true if there are any.
    #[cold]
    fn find_collisions(&self, slots: impl Iterator<Item = Slot>, dirty: &mut Vec<Dirty>) -> bool {
        let (mut seen, mut found) = (HashSet::new(), false);
        for slot in slots {
            let column = match slot {
                Slot::Column(column) if !seen.insert(column) => column,
                Slot::Taken(column) => column,
                _ => continue,
            };
            let problem =
                "several keys of the log have this column: map them in `columns`, or exclude all but one";
            dirty.push((self.others.text(column).to_owned(), problem.into()));
            found = true;
        }
        found
    }
}

/// Returns the problem of a value that is too long.
#[inline(always)]
fn too_long(value: Value<'_>, most: usize) -> Option<String> {
    match value {
        Value::String(bytes) | Value::Binary(bytes) if bytes.len() > most => {
            Some(format!("has {} bytes, and {most} are allowed", bytes.len()))
        }
        _ => None,
    }
}
