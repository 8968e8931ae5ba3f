/// Returns the input log of each of `messages`. `logs` has the input log of each transformed log; `transformed` has the
/// transformed log of each message. An empty list, also as the result, means one to one.
pub fn input_logs(logs: &[u32], transformed: Vec<u32>, messages: usize) -> Vec<u32> {
    if logs.is_empty() {
        return transformed;
    }
    let input_log = |log: u32| logs.get(log as usize).copied().unwrap_or(u32::MAX);
    if transformed.is_empty() {
        (0..messages as u32).map(input_log).collect()
    } else {
        transformed.into_iter().map(input_log).collect()
    }
}

/// Returns the first log of a batch of `before` logs that a transformer filtered or split, if any.
pub fn first_filtered_or_split(logs: &[u32], before: usize, after: usize) -> Option<u32> {
    if logs.is_empty() {
        return if before == after { None } else { Some(0) };
    }
    let differs = logs.iter().zip(0..).position(|(&log, number): (_, u32)| log != number);
    differs.map(|log| log as u32).or((logs.len() != before).then_some(logs.len() as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_messages_to_input_logs() {
        // The transformer kept logs 1 and 4 of five.
        assert_eq!(input_logs(&[1, 4], vec![], 2), [1, 4]);
        assert_eq!(input_logs(&[1, 4], vec![1], 1), [4]);
        assert_eq!(input_logs(&[1, 1, 4], vec![], 3), [1, 1, 4]);
        assert_eq!(input_logs(&[], vec![2], 1), [2]);
        assert_eq!(input_logs(&[], vec![], 3), [] as [u32; 0]);
        // An index out of range stays out of range, so that the host rejects it.
        assert_eq!(input_logs(&[1], vec![7], 1), [u32::MAX]);
    }

    #[test]
    fn finds_first_filtered_or_split_log() {
        assert_eq!(first_filtered_or_split(&[], 3, 3), None);
        assert_eq!(first_filtered_or_split(&[0, 1, 2], 3, 3), None);
        assert_eq!(first_filtered_or_split(&[], 3, 0), Some(0));
        assert_eq!(first_filtered_or_split(&[0, 2], 3, 2), Some(1));
        assert_eq!(first_filtered_or_split(&[0, 1], 3, 2), Some(2));
        assert_eq!(first_filtered_or_split(&[0, 0, 1], 2, 3), Some(1));
        assert_eq!(first_filtered_or_split(&[0, 1, 1], 2, 3), Some(2));
    }
}
