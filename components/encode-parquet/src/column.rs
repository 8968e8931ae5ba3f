use logship_stage::columns::Cell;
use logship_stage::{Output, Result};
use parquet::basic::Encoding;
use parquet::column::writer::ColumnCloseResult;
use parquet::schema::types::ColumnDescPtr;

use crate::Kind;
use crate::chunk::{Chunk, Codec, DICTIONARY, HEADER_BYTES, Pages};
use crate::convert;
use crate::dictionary::{Dictionary, Interned};
use crate::hybrid::{max_bytes, push_hybrid, push_packed, push_run, width_of};
use crate::statistics::Extremes;

/// A page ends with the row that reaches either limit. Other writers use the same limits.
const PAGE_ROWS: u32 = 20_000;
const PAGE_BYTES: usize = 1 << 20;

/// A column of the open row group: turns values into pages.
///
/// The end of a page and the encoding of its values depend only on the rows: on their number, their size and
/// earlier values.
#[derive(Debug)]
pub(crate) struct Column {
    kind: Kind,
    /// The complete pages.
    chunk: Chunk,
    page: OpenPage,
    dictionary: Dictionary,
    mode: Mode,
    /// True if the next row group tries a dictionary. False if this row group abandoned its dictionary.
    try_dictionary: bool,
    extremes: Extremes,
    /// The number of nulls in the complete pages.
    nulls: u64,
    /// True if a value of the current call did not fit.
    lossy: bool,
}

/// The encoding of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Dictionary, tentatively: the first page decides whether it saves space.
    Trying,
    /// Dictionary: at least one complete page uses it.
    Dictionary,
    /// Plain, after pages that use the dictionary.
    PlainAfterDictionary,
    /// Plain.
    Plain,
}

/// The open page.
#[derive(Debug, Default)]
struct OpenPage {
    rows: u32,
    nulls: u32,
    /// One definition level per row, from the first null on; 1 means a value.
    levels: Vec<u32>,
    /// The values' indexes in the dictionary; for booleans, the values themselves.
    indexes: Vec<u32>,
    /// The values in PLAIN encoding.
    plain: Output,
    /// The size of the values in PLAIN encoding, in bytes.
    plain_bytes: usize,
}

impl Column {
    pub(crate) fn new(kind: Kind) -> Self {
        let try_dictionary = kind != Kind::Boolean;
        Self {
            kind,
            chunk: Chunk::default(),
            page: OpenPage::default(),
            dictionary: Dictionary::new(kind == Kind::String),
            mode: if try_dictionary { Mode::Trying } else { Mode::Plain },
            try_dictionary,
            extremes: Extremes::new(kind),
            nulls: 0,
            lossy: false,
        }
    }

    /// Returns the type.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Adds the values of some rows. `utf8` is true if all are known to be UTF-8. Returns true if one of them does not
    /// fit: [`convert::loss`] tells which.
    pub(crate) fn push<'a>(
        &mut self,
        codec: &mut Codec,
        cells: impl Iterator<Item = Cell<'a>>,
        utf8: bool,
    ) -> Result<bool> {
        self.lossy = false;
        match self.kind {
            Kind::String => self.push_each(codec, cells, |column, codec, cell| match cell {
                Cell::Bytes(bytes) if utf8 || simdutf8::basic::from_utf8(bytes).is_ok() => {
                    column.push_text(codec, bytes)
                }
                Cell::Bytes(bytes) => column.push_text(codec, String::from_utf8_lossy(bytes).as_bytes()),
                Cell::Number(number) => {
                    column.push_text(codec, itoa::Buffer::new().format(number).as_bytes())
                }
                Cell::Missing => Ok(false),
            }),
            Kind::Boolean => self.push_each(codec, cells, |column, _, cell| {
                Ok(convert::boolean(cell).is_some_and(|value| column.push_boolean(value)))
            }),
            Kind::Int32 => self.push_each(codec, cells, |column, codec, cell| {
                let value = convert::integer::<i32>(cell);
                value.map_or(Ok(false), |value| column.push_integer(codec, value.into(), value.to_le_bytes()))
            }),
            Kind::Int64 => self.push_each(codec, cells, |column, codec, cell| {
                let value = convert::integer::<i64>(cell);
                value.map_or(Ok(false), |value| column.push_integer(codec, value, value.to_le_bytes()))
            }),
            Kind::Float => self.push_each(codec, cells, |column, codec, cell| {
                let Some(value) = convert::float::<f32>(cell) else { return Ok(false) };
                column.lossy |= !convert::keeps_integer(cell, value);
                column.push_float(codec, value.into(), value.to_le_bytes())
            }),
            Kind::Double => self.push_each(codec, cells, |column, codec, cell| {
                let Some(value) = convert::float::<f64>(cell) else { return Ok(false) };
                column.lossy |= !convert::keeps_digits(cell, value);
                column.push_float(codec, value, value.to_le_bytes())
            }),
        }?;
        Ok(self.lossy)
    }

    /// Adds the values of some rows by `push`, which returns true for a value and false for null. In WebAssembly each
    /// kind gets a function of its own: the compiler keeps fewer variables of a larger function in registers.
    #[cfg_attr(target_family = "wasm", inline(never))]
    #[cfg_attr(not(target_family = "wasm"), inline(always))]
    fn push_each<'a>(
        &mut self,
        codec: &mut Codec,
        cells: impl Iterator<Item = Cell<'a>>,
        push: impl Fn(&mut Self, &mut Codec, Cell<'a>) -> Result<bool>,
    ) -> Result<()> {
        for cell in cells {
            let valid = push(self, codec, cell)?;
            self.page.push_level(valid);
            self.lossy |= !valid && cell != Cell::Missing;
            let plain = matches!(self.mode, Mode::Plain | Mode::PlainAfterDictionary);
            if self.page.rows >= PAGE_ROWS || plain && self.page.plain_bytes >= PAGE_BYTES {
                self.close_page(codec)?;
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn push_text(&mut self, codec: &mut Codec, text: &[u8]) -> Result<bool> {
        if self.push_value(codec, text, text.len() + 4)?
            && let Extremes::Texts(texts) = &mut self.extremes
        {
            texts.add(text);
        }
        Ok(true)
    }

    fn push_boolean(&mut self, value: bool) -> bool {
        self.page.indexes.push(value.into());
        self.page.plain_bytes += 1;
        if let Extremes::Booleans(booleans) = &mut self.extremes {
            booleans.add(value);
        }
        true
    }

    #[inline(always)]
    fn push_integer<const N: usize>(
        &mut self,
        codec: &mut Codec,
        value: i64,
        bytes: [u8; N],
    ) -> Result<bool> {
        if self.push_value(codec, &bytes, N)?
            && let Extremes::Integers(integers) = &mut self.extremes
        {
            integers.add(value);
        }
        Ok(true)
    }

    #[inline(always)]
    fn push_float<const N: usize>(&mut self, codec: &mut Codec, value: f64, bytes: [u8; N]) -> Result<bool> {
        if self.push_value(codec, &bytes, N)?
            && let Extremes::Floats(floats) = &mut self.extremes
        {
            floats.add(value);
        }
        Ok(true)
    }

    /// Adds a value to the open page. Returns true if the value is new to the statistics.
    #[inline(always)]
    fn push_value(&mut self, codec: &mut Codec, value: &[u8], plain_bytes: usize) -> Result<bool> {
        if matches!(self.mode, Mode::Trying | Mode::Dictionary) {
            match self.dictionary.intern(value) {
                Interned::Known(index) => {
                    self.page.indexes.push(index);
                    self.page.plain_bytes += plain_bytes;
                    return Ok(false);
                }
                Interned::New(index) => {
                    self.page.indexes.push(index);
                    self.page.plain_bytes += plain_bytes;
                    return Ok(true);
                }
                Interned::Full => self.leave_dictionary(codec)?,
            }
        }
        if self.kind == Kind::String {
            self.page.plain.push_value(&(value.len() as u32).to_le_bytes());
        }
        self.page.plain.push_value(value);
        self.page.plain_bytes += plain_bytes;
        Ok(true)
    }

    /// Closes the page at which the dictionary became full.
    #[cold]
    #[inline(never)]
    fn leave_dictionary(&mut self, codec: &mut Codec) -> Result<()> {
        self.close_page(codec)?;
        self.mode = if self.mode == Mode::Dictionary { Mode::PlainAfterDictionary } else { Mode::Plain };
        self.try_dictionary = false;
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn close_page(&mut self, codec: &mut Codec) -> Result<()> {
        if self.page.rows == 0 {
            return Ok(());
        }
        if self.mode == Mode::Trying && !self.page.indexes.is_empty() {
            self.decide_encoding();
        }
        let mut raw = Vec::with_capacity(self.page.max_bytes(self.dictionary.len()));
        self.page.push_levels(&mut raw);
        let encoding = if self.kind == Kind::Boolean {
            push_packed(&mut raw, &self.page.indexes, 1);
            Encoding::PLAIN
        } else if self.page.indexes.is_empty() {
            raw.extend_from_slice(self.page.plain.as_bytes());
            Encoding::PLAIN
        } else {
            let width = width_of(self.dictionary.len());
            raw.push(width as u8);
            push_hybrid(&mut raw, &self.page.indexes, width);
            DICTIONARY
        };
        self.nulls += u64::from(self.page.nulls);
        let rows = self.page.rows;
        self.page.clear();
        self.chunk.push_data(codec, raw, rows, encoding)
    }

    /// Keeps the dictionary if it saves a quarter of the first page. Otherwise, encodes the page again as PLAIN.
    fn decide_encoding(&mut self) {
        let page = &mut self.page;
        let dictionary_bytes = max_bytes(page.indexes.len(), width_of(self.dictionary.len()));
        if dictionary_bytes + self.dictionary.page().len() < page.plain_bytes / 4 * 3 {
            self.mode = Mode::Dictionary;
            return;
        }
        page.indexes.drain(..).for_each(|index| page.plain.push_value(self.dictionary.plain(index)));
        self.mode = Mode::Plain;
        self.try_dictionary = false;
    }

    /// Returns an upper bound of this column's uncompressed size in bytes if the row group ended now.
    pub(crate) fn size(&self) -> u64 {
        let dictionary = match self.mode {
            // If the dictionary is kept, dictionary and page are smaller than the PLAIN page.
            Mode::Trying | Mode::Plain => 0,
            Mode::Dictionary | Mode::PlainAfterDictionary => self.dictionary.page().len() + HEADER_BYTES,
        };
        let page = match self.mode {
            _ if self.page.rows == 0 => 0,
            // Either the page is encoded as PLAIN, or there are a dictionary and two headers.
            Mode::Trying => self.page.levels_bytes() + self.page.plain_bytes + 2 * HEADER_BYTES,
            _ => self.page.max_bytes(self.dictionary.len()) + HEADER_BYTES,
        };
        self.chunk.uncompressed() + (dictionary + page) as u64
    }

    /// Closes the row group. Returns its pages and their metadata for the footer.
    pub(crate) fn close(
        &mut self,
        codec: &mut Codec,
        column: ColumnDescPtr,
        rows: u64,
    ) -> Result<(Pages, ColumnCloseResult)> {
        self.close_page(codec)?;
        if matches!(self.mode, Mode::Dictionary | Mode::PlainAfterDictionary) {
            let raw = self.dictionary.page().to_vec();
            self.chunk.push_dictionary(codec, raw, self.dictionary.len() as u32)?;
        }
        let statistics = self.extremes.statistics(self.kind, self.nulls);
        let chunk = std::mem::take(&mut self.chunk);
        self.dictionary.clear();
        self.mode = if self.try_dictionary { Mode::Trying } else { Mode::Plain };
        self.extremes = Extremes::new(self.kind);
        self.nulls = 0;
        chunk.close(codec, column, rows, statistics)
    }
}

impl OpenPage {
    #[inline(always)]
    fn push_level(&mut self, valid: bool) {
        if !valid || self.nulls > 0 {
            self.push_mixed_level(valid);
        }
        self.rows += 1;
    }

    fn push_mixed_level(&mut self, valid: bool) {
        self.levels.resize(self.rows as usize, 1);
        self.levels.push(valid.into());
        self.nulls += u32::from(!valid);
    }

    /// Appends the definition levels, preceded by their length.
    fn push_levels(&self, raw: &mut Vec<u8>) {
        let start = raw.len() + 4;
        raw.extend_from_slice(&[0; 4]);
        if self.nulls == 0 {
            push_run(raw, 1, self.rows as usize, 1);
        } else {
            push_hybrid(raw, &self.levels, 1);
        }
        let len = (raw.len() - start) as u32;
        raw[start - 4..start].copy_from_slice(&len.to_le_bytes());
    }

    /// Returns an upper bound of the size of the definition levels, in bytes.
    fn levels_bytes(&self) -> usize {
        4 + if self.nulls == 0 { 8 } else { max_bytes(self.levels.len(), 1) }
    }

    /// Returns an upper bound of the page's size in its current encoding, in bytes.
    fn max_bytes(&self, dictionary_len: usize) -> usize {
        self.levels_bytes()
            + 1
            + self.plain.len()
            + match self.indexes.len() {
                0 => 0,
                count => max_bytes(count, width_of(dictionary_len)),
            }
    }

    /// Clears the page but keeps its memory.
    fn clear(&mut self) {
        (self.rows, self.nulls, self.plain_bytes) = (0, 0, 0);
        self.levels.clear();
        self.indexes.clear();
        self.plain.truncate(0);
    }
}
