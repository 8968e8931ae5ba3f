//! The values of a column, as in Arrow: fixed-width values, texts by their ends, lists by their ends.

use logship_stage::Output;

/// The values of a column that are not in a record batch yet.
#[derive(Debug)]
pub(crate) struct Array {
    /// For each value, 1 or 0 if it is null.
    pub(crate) valid: Vec<u8>,
    /// The number of nulls.
    pub(crate) nulls: usize,
    pub(crate) data: Data,
}

/// The values themselves. Nulls have some value too.
#[derive(Debug)]
pub(crate) enum Data {
    /// One byte per value.
    Bits(Vec<u8>),
    /// Values of one width, in bytes, little-endian.
    Fixed(usize, Vec<u8>),
    /// All bytes, and the end of each value after a first 0.
    Bytes(Vec<i32>, Output),
    /// The items, and the end of each list after a first 0.
    List(Vec<i32>, Box<Array>),
    Struct(Vec<Array>),
}

impl Array {
    pub(crate) fn new(data: Data) -> Self {
        Self { valid: vec![], nulls: 0, data }
    }

    pub(crate) fn fixed(width: usize) -> Self {
        Self::new(Data::Fixed(width, vec![]))
    }

    pub(crate) fn bytes() -> Self {
        Self::new(Data::Bytes(vec![0], Output::default()))
    }

    pub(crate) fn list(item: Self) -> Self {
        Self::new(Data::List(vec![0], Box::new(item)))
    }

    pub(crate) fn len(&self) -> usize {
        self.valid.len()
    }

    pub(crate) fn is_null(&self, index: usize) -> bool {
        self.valid[index] == 0
    }

    pub(crate) fn push_null(&mut self) {
        self.push_empty();
        if let Some(last) = self.valid.last_mut() {
            *last = 0;
        }
        self.nulls += 1;
    }

    /// Appends zero, an empty text or list, or a struct of such values: what Arrow's library has in the fields of a null.
    fn push_empty(&mut self) {
        match &mut self.data {
            Data::Bits(bits) => bits.push(0),
            Data::Fixed(width, bytes) => bytes.resize(bytes.len() + *width, 0),
            Data::Bytes(ends, bytes) => ends.push(bytes.len() as i32),
            Data::List(ends, items) => ends.push(items.len() as i32),
            Data::Struct(fields) => fields.iter_mut().for_each(Self::push_empty),
        }
        self.valid.push(1);
    }

    /// Appends a value of a fixed width.
    #[inline(always)]
    pub(crate) fn push_fixed<const N: usize>(&mut self, value: [u8; N]) {
        if let Data::Fixed(_, bytes) = &mut self.data {
            bytes.extend_from_slice(&value);
            self.valid.push(1);
        }
    }

    pub(crate) fn push_bit(&mut self, value: bool) {
        if let Data::Bits(bits) = &mut self.data {
            bits.push(value.into());
            self.valid.push(1);
        }
    }

    #[inline(always)]
    pub(crate) fn push_bytes(&mut self, value: &[u8]) {
        if let Data::Bytes(ends, bytes) = &mut self.data {
            bytes.push_value(value);
            ends.push(bytes.len() as i32);
            self.valid.push(1);
        }
    }

    /// Returns the value of a fixed width.
    pub(crate) fn fixed_at<const N: usize>(&self, index: usize) -> [u8; N] {
        match &self.data {
            Data::Fixed(width, bytes) if *width == N => bytes[index * N..][..N].try_into().unwrap_or([0; N]),
            _ => [0; N],
        }
    }

    /// Returns a bit as a byte.
    pub(crate) fn bit_at(&self, index: usize) -> u8 {
        match &self.data {
            Data::Bits(bits) => bits[index],
            _ => 0,
        }
    }

    /// Returns a value as bytes.
    pub(crate) fn bytes_at(&self, index: usize) -> &[u8] {
        match &self.data {
            Data::Bytes(ends, bytes) => &bytes.as_bytes()[ends[index] as usize..ends[index + 1] as usize],
            _ => &[],
        }
    }

    /// Removes the values from `len` on.
    pub(crate) fn truncate(&mut self, len: usize) {
        // An incomplete value may have left more in nested arrays.
        let removed = self.valid.get(len..).unwrap_or_default();
        self.nulls -= removed.iter().filter(|&&valid| valid == 0).count();
        self.valid.truncate(len);
        match &mut self.data {
            Data::Bits(bits) => bits.truncate(len),
            Data::Fixed(width, bytes) => bytes.truncate(len * *width),
            Data::Bytes(ends, bytes) => {
                ends.truncate(len + 1);
                bytes.truncate(ends[len] as usize);
            }
            Data::List(ends, items) => {
                ends.truncate(len + 1);
                items.truncate(ends[len] as usize);
            }
            Data::Struct(fields) => fields.iter_mut().for_each(|field| field.truncate(len)),
        }
    }
}
