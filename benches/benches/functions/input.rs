//! Batches of access logs.

use bytes::Bytes;
use logship_batch::batch::{BatchBuilder, LogBatch};
use logship_batch::log_group::log_groups;
use logship_batch::parser::{Parser, Settings};
use logship_bench::line;

/// The input format of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputFormat {
    Lines,
    LogGroup,
}

impl InputFormat {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lines => "NDJSON",
            Self::LogGroup => "a LogGroup",
        }
    }

    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::LogGroup => "application/x-protobuf",
        }
    }

    /// Returns a batch of at least `bytes` of lines, or a log group with the same logs.
    pub(crate) fn batch(self, bytes: usize) -> Bytes {
        let mut lines = String::new();
        for number in 0.. {
            lines.push_str(&line(number));
            lines.push('\n');
            if lines.len() >= bytes {
                break;
            }
        }
        if self == Self::Lines {
            return lines.into();
        }
        // A log group has only one source.
        let lines = lines.replace(r#""__source__":"10.0.3."#, r#""__source__":"10.0.3.1","host_number":""#);
        let parsed = Parser::new(settings()).parse(lines.as_bytes());
        log_groups(&parsed.batches[0].1, "").remove(0).into()
    }

    /// Parses the body to batches as the host passes them to stages.
    pub(crate) fn batches(self, body: &[u8], mut visit: impl FnMut(&LogBatch)) {
        if self == Self::LogGroup {
            let mut builder = BatchBuilder::default();
            builder.log_group(body).expect("a log group");
            return visit(&builder.take());
        }
        let (mut parser, mut rest) = (Parser::new(settings()), body);
        while !rest.is_empty() {
            let block_end = rest.len().min(512 << 10);
            let end = rest[block_end..].iter().position(|&byte| byte == b'\n');
            let (block, after) = rest.split_at(end.map_or(rest.len(), |end| block_end + end + 1));
            parser.parse(block).batches.iter().for_each(|(_, batch)| visit(batch));
            rest = after;
        }
    }
}

fn settings() -> Settings {
    Settings { time_field: None, default_time: (0, 0), shards: 1, shard_field: String::new() }
}
