//! Writes the protobuf record stream: tagged values, a checksum after each record, a count and a checksum at the end.

use crc32c::{crc32c, crc32c_append};

use crate::array::{Array, Data};
use crate::types::Type;

/// The tag after the fields of a record, before its checksum.
const END_RECORD: u32 = 33_553_408;
/// The tag of the number of records.
const META_COUNT: u32 = 33_554_430;
/// The tag of the checksum of all records.
const META_CHECKSUM: u32 = 33_554_431;
/// The nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;

const VARINT: u32 = 0;
const FIXED_64: u32 = 1;
const BYTES: u32 = 2;
const FIXED_32: u32 = 5;

/// Writes records.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    count: i64,
    /// The checksum of the records' checksums.
    checksum: u32,
    /// The bytes that the checksum of a record covers.
    covered: Vec<u8>,
}

impl Stream {
    /// Appends the records of some columns with the same number of rows.
    pub(crate) fn write(&mut self, columns: &[(&Type, &Array)], rows: usize, out: &mut Vec<u8>) {
        for row in 0..rows {
            self.covered.clear();
            for (number, (data_type, array)) in (1..).zip(columns) {
                if array.is_null(row) {
                    continue;
                }
                varint(out, number << 3 | wire_type(data_type));
                self.covered.extend_from_slice(&(number as u32).to_le_bytes());
                Record { out, covered: &mut self.covered }.value(data_type, array, row);
            }
            let checksum = crc32c(&self.covered);
            tag(out, END_RECORD, VARINT);
            signed(out, checksum);
            self.checksum = crc32c_append(self.checksum, &checksum.to_le_bytes());
        }
        self.count += rows as i64;
    }

    /// Returns the end of the block.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut out = vec![];
        tag(&mut out, META_COUNT, VARINT);
        varint(&mut out, zigzag(self.count));
        tag(&mut out, META_CHECKSUM, VARINT);
        signed(&mut out, self.checksum);
        out
    }
}

/// The record that is being written.
struct Record<'r> {
    out: &'r mut Vec<u8>,
    covered: &'r mut Vec<u8>,
}

impl Record<'_> {
    fn value(&mut self, data_type: &Type, array: &Array, index: usize) {
        match data_type {
            Type::Boolean => self.bytes(&[array.bit_at(index)]),
            Type::Integer(1) => self.integer(i8::from_le_bytes(array.fixed_at(index)).into()),
            Type::Integer(2) => self.integer(i16::from_le_bytes(array.fixed_at(index)).into()),
            Type::Integer(4) | Type::Date | Type::IntervalYearMonth => {
                self.integer(i32::from_le_bytes(array.fixed_at(index)).into());
            }
            Type::Integer(_) | Type::Datetime => self.integer(i64::from_le_bytes(array.fixed_at(index))),
            Type::Float => self.bytes(&array.fixed_at::<4>(index)),
            Type::Double => self.bytes(&array.fixed_at::<8>(index)),
            Type::Text(_) | Type::Binary | Type::Json | Type::Decimal { .. } => {
                let bytes = array.bytes_at(index);
                varint(self.out, bytes.len() as u64);
                self.bytes(bytes);
            }
            Type::Timestamp | Type::TimestampNtz => {
                let nanos = i64::from_le_bytes(array.fixed_at(index));
                self.instant(nanos.div_euclid(SECOND), nanos.rem_euclid(SECOND) as i32);
            }
            Type::IntervalDayTime => {
                if let Data::Struct(parts) = &array.data {
                    let nanos = i32::from_le_bytes(parts[1].fixed_at(index));
                    self.instant(i64::from_le_bytes(parts[0].fixed_at(index)), nanos);
                }
            }
            Type::Array(item) => self.list(array, index, |record, items, at| record.item(item, items, at)),
            Type::Vector(item, _) => {
                self.list(array, index, |record, items, at| record.value(item, items, at))
            }
            Type::Map(key, value) => {
                for (column, item) in [key, value].into_iter().enumerate() {
                    self.list(array, index, |record, entries, at| {
                        if let Data::Struct(columns) = &entries.data {
                            record.item(item, &columns[column], at);
                        }
                    });
                }
            }
            Type::Struct(fields) => {
                if let Data::Struct(columns) = &array.data {
                    fields
                        .iter()
                        .zip(columns)
                        .for_each(|((_, field), column)| self.item(field, column, index));
                }
            }
        }
    }

    /// Writes an item of a nested value after its null flag.
    fn item(&mut self, data_type: &Type, array: &Array, index: usize) {
        let is_null = array.is_null(index);
        self.out.push(is_null.into());
        if !is_null {
            self.value(data_type, array, index);
        }
    }

    /// Writes the number of items of a list, and each item.
    fn list(&mut self, array: &Array, index: usize, mut write: impl FnMut(&mut Self, &Array, usize)) {
        if let Data::List(ends, items) = &array.data {
            let range = ends[index] as usize..ends[index + 1] as usize;
            varint(self.out, range.len() as u64);
            range.for_each(|at| write(self, items, at));
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
        self.covered.extend_from_slice(bytes);
    }

    fn integer(&mut self, number: i64) {
        varint(self.out, zigzag(number));
        self.covered.extend_from_slice(&number.to_le_bytes());
    }

    fn instant(&mut self, seconds: i64, nanos: i32) {
        self.integer(seconds);
        varint(self.out, u64::from((nanos << 1 ^ nanos >> 31) as u32));
        self.covered.extend_from_slice(&nanos.to_le_bytes());
    }
}

fn wire_type(data_type: &Type) -> u64 {
    let wire_type = match data_type {
        Type::Float => FIXED_32,
        Type::Double => FIXED_64,
        Type::Boolean | Type::Integer(_) | Type::Date | Type::Datetime | Type::IntervalYearMonth => VARINT,
        _ => BYTES,
    };
    wire_type.into()
}

/// Writes a checksum as the vendor's compiled client does: as a signed number, so that one with its highest bit set has ten
/// bytes. Readers take the lower 32 bits, so the short form of other clients is the same to them.
fn signed(out: &mut Vec<u8>, checksum: u32) {
    varint(out, i64::from(checksum as i32) as u64);
}

fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63) as u64
}

fn tag(out: &mut Vec<u8>, field: u32, wire_type: u32) {
    varint(out, u64::from(field) << 3 | u64::from(wire_type));
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
