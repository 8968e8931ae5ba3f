//! Converts log groups, as a Logstore keeps them, to batches and back.

use logship_sls::log_group::{Header, LogGroupBuilder, LogGroupView, Malformed, Visitor};

use crate::batch::{BatchBuilder, LogBatch, LogGroup, Tag};

impl BatchBuilder {
    /// Adds the logs of a log group, in their order, in one pass.
    ///
    /// # Errors
    /// Returns an error if the bytes are not a log group. Nothing is added then.
    pub fn log_group(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let before = self.len();
        let view = match LogGroupView::parse_into(bytes, &mut LogAppender(self)) {
            Ok(view) => view,
            Err(error) => {
                self.truncate(before);
                return Err(error);
            }
        };
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let tags = view.tags().iter().map(|&(key, value)| Tag { key: text(key), value: text(value) });
        let group = LogGroup { topic: text(view.topic()), source: text(view.source()), tags: tags.collect() };
        let group = self.group(&group);
        self.set_group(before, group);
        Ok(())
    }
}

/// Appends logs with group 0. The real group is set at the end: in the encoding, its fields follow the logs.
struct LogAppender<'a>(&'a mut BatchBuilder);

impl Visitor for LogAppender<'_> {
    #[inline(always)]
    fn field(&mut self, key: &[u8], value: &[u8]) {
        self.0.field_bytes(key, value);
    }

    #[inline(always)]
    fn end_log(&mut self, time: u32, nanos: Option<u32>) {
        self.0.end_log(0, time, nanos.unwrap_or(0));
    }
}

/// Encodes a batch as log groups, one for each group of the batch that has logs.
///
/// `source` is the default for groups without a source.
pub fn log_groups(batch: &LogBatch, source: &str) -> Vec<Vec<u8>> {
    let mut builders: Vec<Option<LogGroupBuilder>> = batch.groups.iter().map(|_| None).collect();
    for log in 0..batch.len() {
        let group = batch.log_groups[log] as usize;
        let builder = builders[group].get_or_insert_with(|| start(&batch.groups[group], source));
        let mut writer = builder.begin_log(batch.times[log], batch.nanos.get(log).copied());
        for (key, value) in batch.log_fields(log) {
            writer.field(key, value);
        }
        writer.end_log();
    }
    builders.into_iter().flatten().map(LogGroupBuilder::finish).collect()
}

/// Encodes a batch as log groups of about `limit` bytes at most; a larger log has a group of its own.
///
/// `source` is the default for groups without a source.
pub fn bounded_log_groups(batch: &LogBatch, source: &str, limit: usize) -> Vec<Vec<u8>> {
    if batch.max_weight() <= limit {
        return log_groups(batch, source);
    }
    let mut groups = vec![];
    let mut logs = 0..0;
    let mut weight = 0;
    for (log, next) in batch.weights(0..batch.len()).enumerate() {
        if weight + next > limit && !logs.is_empty() {
            groups.extend(log_groups(&batch.slice(logs), source));
            (logs, weight) = (log..log, 0);
        }
        (logs.end, weight) = (log + 1, weight + next);
    }
    groups.extend(log_groups(&batch.slice(logs), source));
    groups
}

fn start(group: &LogGroup, source: &str) -> LogGroupBuilder {
    let tags: Vec<_> = group.tags.iter().map(|tag| (tag.key.as_bytes(), tag.value.as_bytes())).collect();
    let source = if group.source.is_empty() { source } else { &group.source };
    LogGroupBuilder::new(&Header {
        topic: Some(group.topic.as_bytes()),
        source: Some(source.as_bytes()),
        machine_uuid: None,
        tags: &tags,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_groups_have_all_logs_in_order() {
        let mut builder = BatchBuilder::default();
        let group = builder.group(&LogGroup { topic: String::new(), source: String::new(), tags: vec![] });
        for (time, size) in [(1, 10), (2, 10), (3, 5000), (4, 900), (5, 10)] {
            builder.field("a", &vec![b'x'; size]);
            builder.end_log(group, time, 0);
        }
        let batch = builder.take();
        let times = |limit| {
            let times = |group: Vec<u8>| {
                let mut decoded = BatchBuilder::default();
                decoded.log_group(&group).unwrap();
                decoded.take().times
            };
            bounded_log_groups(&batch, "", limit).into_iter().map(times).collect::<Vec<_>>()
        };
        assert_eq!(times(1000), [vec![1, 2], vec![3], vec![4], vec![5]]);
        assert_eq!(times(1 << 20), [vec![1, 2, 3, 4, 5]]);
    }

    #[test]
    fn log_groups_round_trip() {
        let mut builder = BatchBuilder::default();
        let tags = vec![Tag { key: "host".into(), value: "h".into() }];
        let first = LogGroup { topic: "t".into(), source: "s".into(), tags };
        let second = LogGroup { topic: String::new(), source: String::new(), tags: vec![] };
        for (group, time, nanos, fields) in [
            (&first, 1, 5, &[("a", "1"), ("b", ""), ("a", "2")][..]),
            (&second, 2, 0, &[]),
            (&first, 3, 0, &[("c", "\u{fffd}")]),
        ] {
            let group = builder.group(group);
            fields.iter().for_each(|(key, value)| builder.field(key, value.as_bytes()));
            builder.end_log(group, time, nanos);
        }
        let groups = log_groups(&builder.take(), "10.0.0.1");
        assert_eq!(groups.len(), 2);
        let mut decoded = BatchBuilder::default();
        for group in &groups {
            decoded.log_group(group).unwrap();
            let truncated = &group[..group.len() - 1];
            assert!(decoded.log_group(truncated).is_err(), "it must leave nothing behind");
        }
        let batch = decoded.take();
        assert_eq!((&batch.times, &batch.nanos), (&vec![1, 3, 2], &vec![5, 0, 0]));
        assert_eq!(batch.groups[0], first);
        assert_eq!(batch.groups[1].source, "10.0.0.1");
        let fields = |log| batch.log_fields(log).collect::<Vec<_>>();
        assert_eq!(fields(0), [("a", &b"1"[..]), ("b", b""), ("a", b"2")]);
        assert_eq!(fields(1), [("c", "\u{fffd}".as_bytes())]);
        assert_eq!(fields(2), []);
    }
}
