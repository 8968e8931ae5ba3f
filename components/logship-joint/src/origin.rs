/// For each of `messages`, the log of the first batch that it is from. `logs` tells which log of that batch each log of the
/// second is from, `of` which log of the second batch each message; an empty list says that they are one to one. Empty
/// again where all are.
pub fn origins(logs: &[u32], of: Vec<u32>, messages: usize) -> Vec<u32> {
    if logs.is_empty() {
        return of;
    }
    let origin = |log: u32| logs.get(log as usize).copied().unwrap_or(u32::MAX);
    if of.is_empty() {
        (0..messages as u32).map(origin).collect()
    } else {
        of.into_iter().map(origin).collect()
    }
}

/// The first log of a batch of `before` that a transformer left out, or made several of; none where each came out once.
pub fn first_that_is_not_one(logs: &[u32], before: usize, after: usize) -> Option<u32> {
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
    fn messages_are_told_by_the_logs_that_came_in() {
        // Of five logs, the transformer left 1 and 4.
        assert_eq!(origins(&[1, 4], vec![], 2), [1, 4]);
        assert_eq!(origins(&[1, 4], vec![1], 1), [4]);
        assert_eq!(origins(&[1, 1, 4], vec![], 3), [1, 1, 4]);
        assert_eq!(origins(&[], vec![2], 1), [2]);
        assert_eq!(origins(&[], vec![], 3), [] as [u32; 0]);
        // What is outside stays outside, for the host to refuse.
        assert_eq!(origins(&[1], vec![7], 1), [u32::MAX]);
    }

    #[test]
    fn a_log_that_is_left_out_or_split_is_found() {
        assert_eq!(first_that_is_not_one(&[], 3, 3), None);
        assert_eq!(first_that_is_not_one(&[0, 1, 2], 3, 3), None);
        assert_eq!(first_that_is_not_one(&[], 3, 0), Some(0));
        assert_eq!(first_that_is_not_one(&[0, 2], 3, 2), Some(1));
        assert_eq!(first_that_is_not_one(&[0, 1], 3, 2), Some(2));
        assert_eq!(first_that_is_not_one(&[0, 0, 1], 2, 3), Some(1));
        assert_eq!(first_that_is_not_one(&[0, 1, 1], 2, 3), Some(2));
    }
}
