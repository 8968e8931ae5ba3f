/// The metadata of a log group, which all its logs share.
#[derive(Debug, Clone, Copy, Default)]
pub struct Header<'a> {
    /// The topic. The Python SDK always sends one, even if empty.
    pub topic: Option<&'a [u8]>,
    /// The source of the logs, usually an IP address.
    pub source: Option<&'a [u8]>,
    /// The UUID of the logs' machine.
    pub machine_uuid: Option<&'a [u8]>,
    /// Tags as key-value pairs.
    pub tags: &'a [(&'a [u8], &'a [u8])],
}

/// Encodes a log group. Writes fields in schema order, like other encoders.
#[derive(Debug, Clone)]
pub struct LogGroupBuilder {
    logs: Vec<u8>,
    /// The encoded fields that follow the logs.
    header: Vec<u8>,
    /// The current log. Buffered, as its length precedes it on the wire.
    log: Vec<u8>,
}

impl LogGroupBuilder {
    /// Creates a group without logs.
    pub fn new(header: &Header<'_>) -> Self {
        let mut encoded = vec![];
        for (tag, value) in [(0x1a, header.topic), (0x22, header.source), (0x2a, header.machine_uuid)] {
            if let Some(value) = value {
                put_bytes(&mut encoded, tag, value);
            }
        }
        for (key, value) in header.tags {
            put_pair(&mut encoded, 0x32, key, value);
        }
        Self { logs: vec![], header: encoded, log: vec![] }
    }

    /// Begins a log. `time` is Unix time in seconds; `nanos` is the fraction.
    pub fn begin_log(&mut self, time: u32, nanos: Option<u32>) -> LogBuilder<'_> {
        self.log.clear();
        self.log.push(0x08);
        put_varint(&mut self.log, u64::from(time));
        LogBuilder { group: self, nanos }
    }

    /// Returns the encoded group.
    pub fn finish(mut self) -> Vec<u8> {
        self.logs.extend_from_slice(&self.header);
        self.logs
    }
}

/// A builder of one log. [`end_log`](Self::end_log) adds the log to its group; without it the log is discarded.
#[derive(Debug)]
#[must_use = "a log is discarded unless `end_log` is called"]
pub struct LogBuilder<'a> {
    group: &'a mut LogGroupBuilder,
    nanos: Option<u32>,
}

impl LogBuilder<'_> {
    /// Appends a field.
    #[inline]
    pub fn field(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        put_pair(&mut self.group.log, 0x12, key.as_ref(), value.as_ref());
    }

    /// Adds the log to its group.
    pub fn end_log(self) {
        let LogGroupBuilder { logs, log, .. } = self.group;
        if let Some(nanos) = self.nanos {
            log.push(0x25);
            log.extend_from_slice(&nanos.to_le_bytes());
        }
        put_bytes(logs, 0x0a, log);
    }
}

#[inline]
fn put_pair(out: &mut Vec<u8>, tag: u8, key: &[u8], value: &[u8]) {
    let length = 2 + varint_len(key.len()) + key.len() + varint_len(value.len()) + value.len();
    // Fast path: every length fits into one byte.
    if length < 0x80 {
        out.reserve(length + 2);
        out.extend_from_slice(&[tag, length as u8, 0x0a, key.len() as u8]);
        out.extend_from_slice(key);
        out.extend_from_slice(&[0x12, value.len() as u8]);
        out.extend_from_slice(value);
        return;
    }
    out.push(tag);
    put_varint(out, length as u64);
    put_bytes(out, 0x0a, key);
    put_bytes(out, 0x12, value);
}

fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[inline]
fn varint_len(number: usize) -> usize {
    // Seven bits per byte, and one byte for zero.
    (usize::BITS - (number | 1).leading_zeros()).div_ceil(7) as usize
}

#[inline]
fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::super::LogGroupView;
    use super::*;

    #[test]
    fn lengths_at_varint_boundaries_round_trip() {
        for len in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
            let value = vec![b'x'; len];
            let mut group = LogGroupBuilder::new(&Header { topic: Some(&value), ..Header::default() });
            let mut log = group.begin_log(len as u32, None);
            log.field(&value, "");
            log.field("k", &value);
            log.end_log();
            let mut dropped = group.begin_log(1, Some(2));
            dropped.field("not", "there");
            let bytes = group.finish();
            let view = LogGroupView::parse(&bytes).unwrap();
            assert_eq!((view.topic().len(), view.log_count()), (len, 1));
            let log = view.logs().next().unwrap();
            let fields: Vec<_> = log.fields().map(|(key, value)| (key.len(), value.len())).collect();
            assert_eq!((log.time(), log.nanos(), fields), (len as u32, None, vec![(len, 0), (1, len)]));
        }
    }
}
