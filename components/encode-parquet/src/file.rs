use std::sync::Arc;

use logship_stage::columns::Cell;
use logship_stage::{Error, Losses, Result};
use parquet::basic::{ConvertedType, LogicalType, Repetition, Type as PhysicalType};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use crate::chunk::{Codec, too_large};
use crate::column::Column;
use crate::rejects::Rejects;
use crate::{ColumnConfig, Config, Kind};

/// The writer's name, in the form that readers parse to decide whether to trust its statistics.
const CREATED_BY: &str = concat!("logship version ", env!("CARGO_PKG_VERSION"), " (build encode-parquet)");
const MAGIC: &[u8] = b"PAR1";

/// An open Parquet file.
pub(crate) struct File {
    /// Writes complete row groups, and the footer at the end.
    writer: SerializedFileWriter<Vec<u8>>,
    codec: Codec,
    row_group_bytes: u64,
    /// The open row group.
    columns: Vec<Column>,
    /// The keys of the columns.
    keys: Vec<String>,
    /// True if the last column has the values that do not fit the others.
    has_rejects: bool,
    rows: u64,
    /// The size of its unconverted values with a length each, in bytes.
    bytes: u64,
    /// The uncompressed size of the complete row groups, in bytes.
    complete_bytes: u64,
    /// The size of the columns' keys in bytes. The footer has them once for the schema and once per row group.
    key_bytes: u64,
    /// An upper bound of the footer's size for the schema and the complete row groups, in bytes.
    footer_size: u64,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File")
            .field("rows", &self.rows)
            .field("columns", &self.columns)
            .finish_non_exhaustive()
    }
}

impl File {
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let rejects = config.rejects_column.clone().map(|key| ColumnConfig { key, kind: Kind::String });
        let columns: Vec<_> = config.columns.iter().cloned().chain(rejects).collect();
        let schema = schema(&columns).map_err(|error| Error::config("columns", error))?;
        let properties = WriterProperties::builder()
            .set_created_by(CREATED_BY.into())
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_offset_index_disabled(true)
            .build();
        let writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties));
        let key_bytes = columns.iter().map(|column| column.key.len() as u64).sum();
        Ok(Self {
            writer: writer.map_err(too_large)?,
            codec: Codec::new(config.compression),
            row_group_bytes: config.row_group_bytes,
            columns: columns.iter().map(|column| Column::new(column.kind)).collect(),
            has_rejects: config.rejects_column.is_some(),
            rows: 0,
            bytes: 0,
            complete_bytes: 0,
            key_bytes,
            footer_size: 256 + key_bytes + 64 * columns.len() as u64,
            keys: columns.into_iter().map(|column| column.key).collect(),
        })
    }

    /// Counts a row before it is pushed. Returns true if it ends the row group: it must then be the last row of a push.
    #[inline(always)]
    pub(crate) fn count(&mut self, cells: &[Cell<'_>]) -> bool {
        let count = |cell: &Cell<'_>| match cell {
            Cell::Missing => 1,
            Cell::Number(_) => 8,
            Cell::Bytes(bytes) => bytes.len() as u64 + 4,
        };
        self.rows += 1;
        self.bytes += cells.iter().map(count).sum::<u64>();
        self.bytes >= self.row_group_bytes
    }

    /// Adds rows with one cell per column. Closes the row group if it is large enough. Counts the values that do not
    /// fit their columns.
    pub(crate) fn push(&mut self, rows: &[Cell<'_>], utf8: bool, losses: &mut Losses) -> Result<()> {
        let width = self.columns.len() - usize::from(self.has_rejects);
        let mut rejects = Rejects::default();
        for (first, column) in self.columns[..width].iter_mut().enumerate() {
            let cells = rows.iter().skip(first).step_by(width).copied();
            if column.push(&mut self.codec, cells.clone(), utf8)? {
                rejects.find(column.kind(), &self.keys[first], cells, losses);
            }
        }
        if self.has_rejects {
            let texts = rejects.texts(rows.len() / width);
            self.columns[width].push(&mut self.codec, texts.iter().map(Rejects::cell), true)?;
        }
        if self.bytes >= self.row_group_bytes {
            self.close_row_group()?;
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn close_row_group(&mut self) -> Result<()> {
        let schema: Vec<_> = self.writer.schema_descr().columns().to_vec();
        let mut chunks = Vec::with_capacity(self.columns.len());
        for (column, schema) in self.columns.iter_mut().zip(schema) {
            chunks.push(column.close(&mut self.codec, schema, self.rows)?);
        }
        // Reserved at once: a growing vector would temporarily need three times the memory.
        let bytes = chunks.iter().map(|(_, close)| close.bytes_written as usize).sum();
        self.writer.inner_mut().reserve_exact(bytes);
        let mut group = self.writer.next_row_group().map_err(too_large)?;
        for (pages, close) in chunks {
            group.append_column(&pages, close).map_err(too_large)?;
        }
        let group = group.close().map_err(too_large)?;
        self.complete_bytes += group.total_byte_size() as u64;
        self.footer_size += footer_bytes(&group);
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }

    /// Takes the bytes written since the last call.
    pub(crate) fn take(&mut self) -> Result<Vec<u8>> {
        self.writer.flush().map_err(too_large)?;
        Ok(std::mem::take(self.writer.inner_mut()))
    }

    /// Returns an upper bound of the file's uncompressed size in bytes if it were finished now.
    pub(crate) fn size(&self) -> u64 {
        let open_bytes = match self.rows {
            0 => 0,
            _ => self.key_bytes + self.columns.iter().map(|column| column.size() + FOOTER_BYTES).sum::<u64>(),
        };
        MAGIC.len() as u64 + self.complete_bytes + open_bytes + self.footer_size
    }

    /// Finishes the file and returns its last bytes.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>> {
        if self.rows > 0 {
            self.close_row_group()?;
        }
        self.writer.finish().map_err(too_large)?;
        self.take()
    }
}

/// The largest footer entry of a column chunk in bytes, without its key and with truncated texts in its statistics.
const FOOTER_BYTES: u64 = 320;

/// Returns an upper bound of the footer's size for a row group, in bytes.
fn footer_bytes(group: &RowGroupMetaData) -> u64 {
    let column = |column: &ColumnChunkMetaData| {
        let key: usize = column.column_path().parts().iter().map(String::len).sum();
        let extremes = column.statistics().map_or(0, |statistics| {
            let len = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
            2 * (len(statistics.min_bytes_opt()) + len(statistics.max_bytes_opt()))
        });
        (160 + key + extremes) as u64
    };
    32 + group.columns().iter().map(column).sum::<u64>()
}

fn schema(columns: &[ColumnConfig]) -> parquet::errors::Result<Type> {
    let fields: Result<Vec<_>, _> = columns
        .iter()
        .map(|column| {
            let physical = match column.kind {
                Kind::String => PhysicalType::BYTE_ARRAY,
                Kind::Boolean => PhysicalType::BOOLEAN,
                Kind::Int32 => PhysicalType::INT32,
                Kind::Int64 => PhysicalType::INT64,
                Kind::Float => PhysicalType::FLOAT,
                Kind::Double => PhysicalType::DOUBLE,
            };
            let field =
                Type::primitive_type_builder(&column.key, physical).with_repetition(Repetition::OPTIONAL);
            let field = match column.kind {
                Kind::String => {
                    let text = field.with_logical_type(Some(LogicalType::String));
                    text.with_converted_type(ConvertedType::UTF8)
                }
                _ => field,
            };
            field.build().map(Arc::new)
        })
        .collect();
    Type::group_type_builder("log").with_fields(fields?).build()
}
