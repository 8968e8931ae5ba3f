use logship_stage::columns::Cell;
use logship_stage::{Output, Result};
use parquet::basic::Encoding;
use parquet::column::writer::ColumnCloseResult;
use parquet::schema::types::ColumnDescPtr;

use crate::Kind;
use crate::chunk::{Chunk, Codec, DICTIONARY, HEADER_BYTES, Pages};
use crate::convert;
use crate::dictionary::{Dictionary, Interned};
use crate::hybrid::{most_bytes, push_hybrid, push_packed, push_run, width_of};
use crate::statistics::Extremes;

/// A page ends with the row that reaches either. Both are what other writers take.
const PAGE_ROWS: u32 = 20_000;
const PAGE_BYTES: usize = 1 << 20;

/// A column of the open row group: values in, pages out.
///
/// Where a page ends, and how its values are encoded, depends on the rows alone: on their number,
/// their bytes and the values before them.
#[derive(Debug)]
pub(crate) struct Column {
    kind: Kind,
    /// The pages that are complete.
    chunk: Chunk,
    page: OpenPage,
    dictionary: Dictionary,
    mode: Mode,
    /// Whether the next row group tries a dictionary: not if this one gave it up.
    dictionary_pays: bool,
    extremes: Extremes,
    /// Of the pages that are complete.
    nulls: u64,
}

/// How values are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// By the dictionary, until the first page shows whether it pays.
    Trying,
    /// By the dictionary: a page that uses it is complete.
    Dictionary,
    /// Each on its own, though pages before use the dictionary.
    Full,
    /// Each on its own.
    Plain,
}

/// The page that is being filled.
#[derive(Debug, Default)]
struct OpenPage {
    rows: u32,
    nulls: u32,
    /// A definition level a row, from the first null on: 1 for a value.
    levels: Vec<u32>,
    /// The values' indexes in the dictionary; of booleans the values.
    indexes: Vec<u32>,
    /// The values in the encoding PLAIN.
    plain: Output,
    /// How many bytes the values take in that encoding.
    plain_bytes: usize,
}

impl Column {
    pub(crate) fn new(kind: Kind) -> Self {
        let dictionary_pays = kind != Kind::Boolean;
        Self {
            kind,
            chunk: Chunk::default(),
            page: OpenPage::default(),
            dictionary: Dictionary::new(kind == Kind::String),
            mode: if dictionary_pays { Mode::Trying } else { Mode::Plain },
            dictionary_pays,
            extremes: Extremes::new(kind),
            nulls: 0,
        }
    }

    /// Adds the values of some rows. `utf8` says that all are known to be UTF-8.
    pub(crate) fn push<'a>(
        &mut self,
        codec: &mut Codec,
        cells: impl Iterator<Item = Cell<'a>>,
        utf8: bool,
    ) -> Result<()> {
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
                let value = convert::float::<f32>(cell);
                value.map_or(Ok(false), |value| column.push_float(codec, value.into(), value.to_le_bytes()))
            }),
            Kind::Double => self.push_each(codec, cells, |column, codec, cell| {
                let value = convert::float::<f64>(cell);
                value.map_or(Ok(false), |value| column.push_float(codec, value, value.to_le_bytes()))
            }),
        }
    }

    /// Adds the values of some rows by `push`, which says whether there is one and not a null. In
    /// WebAssembly a function for each kind: its compiler keeps less of a larger one in registers.
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
            let plain = matches!(self.mode, Mode::Plain | Mode::Full);
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

    /// Adds a value to the open page and returns whether the statistics don't know it yet.
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

    /// Ends the page where the dictionary became full.
    #[cold]
    #[inline(never)]
    fn leave_dictionary(&mut self, codec: &mut Codec) -> Result<()> {
        self.close_page(codec)?;
        self.mode = if self.mode == Mode::Dictionary { Mode::Full } else { Mode::Plain };
        self.dictionary_pays = false;
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn close_page(&mut self, codec: &mut Codec) -> Result<()> {
        if self.page.rows == 0 {
            return Ok(());
        }
        if self.mode == Mode::Trying && !self.page.indexes.is_empty() {
            self.decide();
        }
        let mut raw = Vec::with_capacity(self.page.most_bytes(self.dictionary.len()));
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

    /// Takes the dictionary where it saves a quarter of the first page, else encodes the page anew.
    fn decide(&mut self) {
        let page = &mut self.page;
        let coded = most_bytes(page.indexes.len(), width_of(self.dictionary.len()));
        if coded + self.dictionary.page().len() < page.plain_bytes / 4 * 3 {
            self.mode = Mode::Dictionary;
            return;
        }
        page.indexes.drain(..).for_each(|index| page.plain.push_value(self.dictionary.plain(index)));
        self.mode = Mode::Plain;
        self.dictionary_pays = false;
    }

    /// How many bytes the row group will have for this column, uncompressed, if it ends now; not
    /// fewer than it will be.
    pub(crate) fn size(&self) -> u64 {
        let dictionary = match self.mode {
            // A dictionary that is taken makes the page smaller than without.
            Mode::Trying | Mode::Plain => 0,
            Mode::Dictionary | Mode::Full => self.dictionary.page().len() + HEADER_BYTES,
        };
        let page = match self.mode {
            _ if self.page.rows == 0 => 0,
            // It may yet be encoded without, and with a dictionary has two headers.
            Mode::Trying => self.page.levels_bytes() + self.page.plain_bytes + 2 * HEADER_BYTES,
            _ => self.page.most_bytes(self.dictionary.len()) + HEADER_BYTES,
        };
        self.chunk.uncompressed() + (dictionary + page) as u64
    }

    /// Ends the row group: its pages, and what the footer says of them.
    pub(crate) fn close(
        &mut self,
        codec: &mut Codec,
        column: ColumnDescPtr,
        rows: u64,
    ) -> Result<(Pages, ColumnCloseResult)> {
        self.close_page(codec)?;
        if matches!(self.mode, Mode::Dictionary | Mode::Full) {
            let raw = self.dictionary.page().to_vec();
            self.chunk.push_dictionary(codec, raw, self.dictionary.len() as u32)?;
        }
        let statistics = self.extremes.statistics(self.kind, self.nulls);
        let chunk = std::mem::take(&mut self.chunk);
        self.dictionary.clear();
        self.mode = if self.dictionary_pays { Mode::Trying } else { Mode::Plain };
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

    /// Appends the definition levels, with their length before them.
    fn push_levels(&self, raw: &mut Vec<u8>) {
        let begin = raw.len() + 4;
        raw.extend_from_slice(&[0; 4]);
        if self.nulls == 0 {
            push_run(raw, 1, self.rows as usize, 1);
        } else {
            push_hybrid(raw, &self.levels, 1);
        }
        let len = (raw.len() - begin) as u32;
        raw[begin - 4..begin].copy_from_slice(&len.to_le_bytes());
    }

    /// At most so many bytes the definition levels take.
    fn levels_bytes(&self) -> usize {
        4 + if self.nulls == 0 { 8 } else { most_bytes(self.levels.len(), 1) }
    }

    /// At most so many bytes the page takes as it is encoded so far.
    fn most_bytes(&self, dictionary_len: usize) -> usize {
        self.levels_bytes()
            + 1
            + self.plain.len()
            + match self.indexes.len() {
                0 => 0,
                count => most_bytes(count, width_of(dictionary_len)),
            }
    }

    /// Forgets the page; the memory is kept.
    fn clear(&mut self) {
        (self.rows, self.nulls, self.plain_bytes) = (0, 0, 0);
        self.levels.clear();
        self.indexes.clear();
        self.plain.truncate(0);
    }
}
