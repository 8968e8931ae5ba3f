//! Parquet's hybrid of run-length encoding and bit-packing, for definition levels and dictionary indexes.

/// The number of values per step: runs and packed values are multiples of it.
const STEP: usize = 8;

/// Appends `values`, each below 2^`width`, where `width` is from 1 to 32.
pub(crate) fn push_hybrid(out: &mut Vec<u8>, values: &[u32], width: u32) {
    let mut at = 0;
    while at < values.len() {
        let rest = &values[at..];
        if repeats(rest) {
            let count = rest.iter().take_while(|&&value| value == rest[0]).count();
            push_run(out, rest[0], count, width);
            at += count;
        } else {
            let steps = 1 + rest.chunks(STEP).skip(1).take_while(|step| !repeats(step)).count();
            push_varint(out, (steps as u64) << 1 | 1);
            let count = rest.len().min(steps * STEP);
            push_packed(out, &rest[..count], width);
            at += count;
        }
    }
}

/// Returns true if there are at least [`STEP`] values and the first [`STEP`] are equal.
#[inline(always)]
fn repeats(values: &[u32]) -> bool {
    values
        .first_chunk::<STEP>()
        .is_some_and(|step| step.iter().fold(0, |or, value| or | (value ^ step[0])) == 0)
}

/// Appends a run of one value.
pub(crate) fn push_run(out: &mut Vec<u8>, value: u32, count: usize, width: u32) {
    push_varint(out, (count as u64) << 1);
    out.extend_from_slice(&value.to_le_bytes()[..width.div_ceil(8) as usize]);
}

/// Appends `values` with `width` bits each, lowest bits first, padded with zeros to a multiple of [`STEP`].
pub(crate) fn push_packed(out: &mut Vec<u8>, values: &[u32], width: u32) {
    let end = out.len() + values.len().div_ceil(STEP) * width as usize;
    out.reserve(end - out.len() + 8);
    let (mut bits, mut count) = (0u64, 0);
    for &value in values {
        bits |= u64::from(value) << count;
        count += width;
        if count >= 32 {
            out.extend_from_slice(&(bits as u32).to_le_bytes());
            bits >>= 32;
            count -= 32;
        }
    }
    out.extend_from_slice(&bits.to_le_bytes());
    out.resize(end, 0);
}

/// Returns an upper bound of the bytes that [`push_hybrid`] appends for `count` values.
pub(crate) fn max_bytes(count: usize, width: u32) -> usize {
    // The worst case alternates between a packed step and a run of one step.
    (count / STEP + 1) * (width as usize + 2) + 8
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Returns the number of bits for indexes below `count`, at least one.
pub(crate) fn width_of(count: usize) -> u32 {
    (usize::BITS - count.saturating_sub(1).leading_zeros()).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Decodes as specified by the format, one value at a time.
    fn decode(mut bytes: &[u8], count: usize, width: u32) -> Vec<u32> {
        let mut values = Vec::new();
        while values.len() < count {
            let mut header = 0u64;
            for shift in (0..).step_by(7) {
                let (&byte, rest) = bytes.split_first().unwrap();
                bytes = rest;
                header |= u64::from(byte & 0x7f) << shift;
                if byte < 0x80 {
                    break;
                }
            }
            let run = (header >> 1) as usize;
            let len = if header & 1 == 1 { run * width as usize } else { width.div_ceil(8) as usize };
            let (body, rest) = bytes.split_at(len);
            bytes = rest;
            let bit = |at: usize| u32::from(body[at / 8] >> (at % 8) & 1);
            let value = |index: usize| {
                (0..width as usize).map(|at| bit(index * width as usize + at) << at).fold(0, |a, b| a | b)
            };
            match header & 1 {
                1 => values.extend((0..run * STEP).map(value)),
                _ => values.extend(std::iter::repeat_n(value(0), run)),
            }
        }
        assert!(bytes.is_empty());
        assert!(values.len() < count + STEP && values[count..].iter().all(|&value| value == 0));
        values.truncate(count);
        values
    }

    proptest! {
        #[test]
        fn runs_and_steps_round_trip(
            runs in prop::collection::vec((any::<u32>(), 1..40usize), 0..60),
            width in 1..=32u32,
        ) {
            let values: Vec<u32> = runs
                .iter()
                .flat_map(|&(value, count)| std::iter::repeat_n(value & (u32::MAX >> (32 - width)), count))
                .collect();
            let mut out = Vec::new();
            push_hybrid(&mut out, &values, width);
            prop_assert!(out.len() <= max_bytes(values.len(), width));
            prop_assert_eq!(decode(&out, values.len(), width), values);
        }
    }

    #[test]
    fn widths() {
        let cases = [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (32768, 15), (32769, 16)];
        for (count, width) in cases {
            assert_eq!(width_of(count), width, "{count}");
        }
    }
}
