//! Writes Arrow record batches as encapsulated IPC messages.
//!
//! A message is `FFFFFFFF`, the length of its metadata, the metadata, and the body: buffers of columns, each padded to 8
//! bytes. The metadata is a flatbuffer. Its layout is that of Arrow's C++ library, byte for byte, and only its two lists
//! (nodes and buffers) vary, so that it needs no flatbuffer library.

use crate::array::{Array, Data};

/// The metadata up to the list of buffers. Offsets are relative, and the same for each record batch.
const PREFIX: [u8; 0x4c] = [
    0x14, 0, 0, 0, 0, 0, 0, 0, // the offset of the message
    0x0c, 0, 0x16, 0, 6, 0, 5, 0, 8, 0, 0x0c,
    0, // its vtable: version, header type, header, body length
    0x0c, 0, 0, 0, 0, 3, 4, 0, // RecordBatch, version 5
    0x18, 0, 0, 0, // the offset of the record batch
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // the body's length, from 0x20 on; padding
    0x0a, 0, 0x18, 0, 0x0c, 0, 4, 0, 8, 0, // its vtable: length, nodes, buffers
    0x0a, 0, 0, 0, 0, 0, 0, 0, // the offset of the nodes, from 0x38 on
    0x10, 0, 0, 0, // the offset of the buffers
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // the number of rows, from 0x40 on; padding
];
const BODY_LENGTH: usize = 0x20;
const NODES_OFFSET: usize = 0x38;
const ROWS: usize = 0x40;
/// The alignment of buffers and of the metadata.
const ALIGNMENT: usize = 8;

/// Returns the record batch of some columns with the same number of rows.
pub(crate) fn record_batch(columns: &[&Array], rows: usize) -> Vec<u8> {
    let mut parts = Parts::default();
    columns.iter().for_each(|column| parts.add(column));
    let Parts { nodes, buffers, body } = parts;
    let metadata = PREFIX.len() + 4 + 16 * buffers.len() + 8 + 16 * nodes.len();
    let mut out = Vec::with_capacity(8 + metadata + body.len());
    out.extend_from_slice(&[0xff; 4]);
    out.extend_from_slice(&(metadata as u32).to_le_bytes());
    let mut prefix = PREFIX;
    prefix[BODY_LENGTH..][..8].copy_from_slice(&(body.len() as u64).to_le_bytes());
    let nodes_at = PREFIX.len() + 4 + 16 * buffers.len() + 4;
    prefix[NODES_OFFSET..][..4].copy_from_slice(&((nodes_at - NODES_OFFSET) as u32).to_le_bytes());
    prefix[ROWS..][..8].copy_from_slice(&(rows as u64).to_le_bytes());
    out.extend_from_slice(&prefix);
    for (padding, list) in [(0, &buffers), (4, &nodes)] {
        out.resize(out.len() + padding, 0);
        out.extend_from_slice(&(list.len() as u32).to_le_bytes());
        for (first, second) in list {
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&second.to_le_bytes());
        }
    }
    out.extend_from_slice(&body);
    out
}

/// The parts of a record batch, with those of nested columns after their parents.
#[derive(Default)]
struct Parts {
    /// For each column, its length and number of nulls.
    nodes: Vec<(u64, u64)>,
    /// For each buffer, its place in the body and its length.
    buffers: Vec<(u64, u64)>,
    body: Vec<u8>,
}

impl Parts {
    fn add(&mut self, column: &Array) {
        self.nodes.push((column.len() as u64, column.nulls as u64));
        match column.nulls {
            0 => self.buffer(&[]),
            _ => self.buffer(&pack(&column.valid)),
        }
        match &column.data {
            Data::Bits(bits) => self.buffer(&pack(bits)),
            Data::Fixed(_, bytes) => self.buffer(bytes),
            Data::Bytes(ends, bytes) => {
                self.ends(ends);
                self.buffer(bytes.as_bytes());
            }
            Data::List(ends, items) => {
                self.ends(ends);
                self.add(items);
            }
            Data::Struct(fields) => fields.iter().for_each(|field| self.add(field)),
        }
    }

    fn ends(&mut self, ends: &[i32]) {
        let bytes: Vec<u8> = ends.iter().flat_map(|end| end.to_le_bytes()).collect();
        self.buffer(&bytes);
    }

    fn buffer(&mut self, bytes: &[u8]) {
        self.buffers.push((self.body.len() as u64, bytes.len() as u64));
        self.body.extend_from_slice(bytes);
        self.body.resize(self.body.len().next_multiple_of(ALIGNMENT), 0);
    }
}

/// Packs bytes of 0 and 1 into bits, the first into the lowest.
fn pack(bytes: &[u8]) -> Vec<u8> {
    let byte = |bits: &[u8]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | bit);
    bytes.chunks(8).map(byte).collect()
}
