//! Rows and cells of PlainBuffer.

use logship_stage::{Output, Text};

use crate::crc8;

const HEADER: [u8; 4] = [0x75, 0, 0, 0];
const ROW_KEY: u8 = 0x01;
const ROW_DATA: u8 = 0x02;
const CELL: u8 = 0x03;
const CELL_NAME: u8 = 0x04;
const CELL_VALUE: u8 = 0x05;
const CELL_TIMESTAMP: u8 = 0x07;
const ROW_CHECKSUM: u8 = 0x09;
const CELL_CHECKSUM: u8 = 0x0a;

/// The value of a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    Integer(i64),
    Double(f64),
    Boolean(bool),
    String(&'a [u8]),
    Binary(&'a [u8]),
}

/// The beginning of all cells of a column, up to its value.
#[derive(Debug, Clone)]
pub(crate) struct Name {
    text: Text,
    crc: u8,
}

impl Name {
    pub(crate) fn new(name: &str) -> Self {
        let mut bytes = vec![CELL, CELL_NAME];
        bytes.extend((name.len() as u32).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.push(CELL_VALUE);
        Self { text: Text::from(&bytes[..]), crc: crc8::update(0, name.as_bytes()) }
    }
}

/// Writes rows, end to end.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    out: Output,
    /// The checksum of the row.
    crc: u8,
    cells: usize,
    row_start: usize,
    /// The version of the row's cells, in milliseconds.
    timestamp: Option<i64>,
}

impl Writer {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self { out: Output::with_capacity(capacity), ..Self::default() }
    }

    /// Begins a row with its key. The cells of the key have no version.
    pub(crate) fn begin(&mut self) {
        self.row_start = self.out.len();
        (self.crc, self.cells, self.timestamp) = (0, 0, None);
        self.out.push(&HEADER);
        self.out.push_byte(ROW_KEY);
    }

    /// Ends the key of the row. Returns its end. `timestamp` is the version of the cells after it.
    pub(crate) fn end_key(&mut self, timestamp: Option<i64>) -> u32 {
        (self.cells, self.timestamp) = (0, timestamp);
        let end = self.out.len();
        self.out.push_byte(ROW_DATA);
        end as u32
    }

    /// Ends the row. Returns its end.
    pub(crate) fn end(&mut self) -> u32 {
        if self.cells == 0 {
            // A row without columns has no tag of data.
            self.out.truncate(self.out.len() - 1);
        }
        let crc = crc8::update_byte(self.crc, 0);
        self.out.push_byte(ROW_CHECKSUM);
        self.out.push_byte(crc);
        self.out.len() as u32
    }

    /// Removes the row that was begun last.
    pub(crate) fn cancel(&mut self) {
        self.out.truncate(self.row_start);
    }

    /// The number of columns of the row so far.
    pub(crate) fn cells(&self) -> usize {
        self.cells
    }

    /// The size of the row so far.
    pub(crate) fn row_len(&self) -> usize {
        self.out.len() - self.row_start
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.out.into_bytes()
    }

    /// Writes a cell.
    #[inline(always)]
    pub(crate) fn cell(&mut self, name: &Name, value: Value<'_>) {
        self.out.push_text(&name.text);
        let crc = match value {
            Value::Integer(number) => self.fixed(name.crc, 0, &number.to_le_bytes()),
            Value::Double(number) => self.fixed(name.crc, 1, &number.to_le_bytes()),
            Value::Boolean(truth) => self.fixed(name.crc, 2, &[truth.into()]),
            Value::String(bytes) => self.variable(name.crc, 3, bytes),
            Value::Binary(bytes) => self.variable(name.crc, 7, bytes),
        };
        self.end_cell(crc);
    }

    #[inline(always)]
    fn fixed(&mut self, crc: u8, kind: u8, payload: &[u8]) -> u8 {
        self.out.push_value(&(payload.len() as u32 + 1).to_le_bytes());
        self.out.push_byte(kind);
        self.out.push_value(payload);
        crc8::update(crc8::update_byte(crc, kind), payload)
    }

    #[inline(always)]
    fn variable(&mut self, crc: u8, kind: u8, bytes: &[u8]) -> u8 {
        let len = bytes.len() as u32;
        let mut block = [0; logship_stage::BLOCK];
        block[..4].copy_from_slice(&(len + 5).to_le_bytes());
        block[4] = kind;
        block[5..9].copy_from_slice(&len.to_le_bytes());
        self.out.reserve(9);
        self.out.push_block(block, 9);
        self.out.push_value(bytes);
        crc8::update(crc8::update(crc, &block[4..9]), bytes)
    }

    #[inline(always)]
    fn end_cell(&mut self, mut crc: u8) {
        if let Some(timestamp) = self.timestamp {
            let timestamp = timestamp.to_le_bytes();
            self.out.push_byte(CELL_TIMESTAMP);
            self.out.push_value(&timestamp);
            crc = crc8::update(crc, &timestamp);
        }
        let mut block = [0; logship_stage::BLOCK];
        (block[0], block[1]) = (CELL_CHECKSUM, crc);
        self.out.reserve(2);
        self.out.push_block(block, 2);
        self.crc = crc8::update_byte(self.crc, crc);
        self.cells += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of the vendor's client for the same row.
    const VECTOR: &str = "7500000001030405000000736861726405090000000000000000000000000a2e030406000000637572736f72050d\
        00000003080000004d5463354e513d3d0aa20304010000006e05090000000000000000000000000a5b0203040100000073050b0000000\
        30600000068c3a96c6c6f0a5003040100000069050900000000fbffffffffffffff0adf03040100000064050900000001000000000000\
        f83f0aba03040100000062050200000002010a3e030401000000780507000000070200000001020a47097c";

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn row_is_that_of_the_vendor() {
        let mut writer = Writer::default();
        writer.begin();
        writer.cell(&Name::new("shard"), Value::Integer(0));
        writer.cell(&Name::new("cursor"), Value::String(b"MTc5NQ=="));
        writer.cell(&Name::new("n"), Value::Integer(0));
        let key_end = writer.end_key(None) as usize;
        writer.cell(&Name::new("s"), Value::String("héllo".as_bytes()));
        writer.cell(&Name::new("i"), Value::Integer(-5));
        writer.cell(&Name::new("d"), Value::Double(1.5));
        writer.cell(&Name::new("b"), Value::Boolean(true));
        writer.cell(&Name::new("x"), Value::Binary(&[1, 2]));
        let end = writer.end() as usize;
        let bytes = writer.into_bytes();
        assert_eq!((hex(&bytes), end), (VECTOR.to_owned(), bytes.len()));
        assert!(hex(&bytes[..key_end]).ends_with("0a5b"));
    }

    #[test]
    fn row_without_columns_has_no_tag_of_data() {
        let mut writer = Writer::default();
        writer.begin();
        writer.cell(&Name::new("k"), Value::Integer(1));
        writer.end_key(Some(1));
        writer.end();
        let bytes = writer.into_bytes();
        assert_eq!(bytes[bytes.len() - 2], ROW_CHECKSUM);
        assert_eq!(bytes[bytes.len() - 4], CELL_CHECKSUM);
    }

    #[test]
    fn cancelled_rows_leave_nothing() {
        let mut writer = Writer::default();
        writer.begin();
        writer.cell(&Name::new("k"), Value::Integer(1));
        writer.cancel();
        assert!(writer.into_bytes().is_empty());
    }
}
