//! Opens a sink from its settings. No other module knows all kinds of sinks.

use logship_config::destination::DestinationConfig;
use logship_config::receiver::ReceiverConfig;

use crate::error::SinkError;
use crate::event::EventSink;
use crate::object::{BucketLocation, ObjectSink};
use crate::{directory, hec, oss, s3, syslog};

/// Opens a bucket of a destination. Does not connect.
///
/// # Errors
/// [`SinkError::Settings`] or [`SinkError::RuleField`] if a setting is invalid or the destination is a function.
pub fn object_sink(
    config: &DestinationConfig,
    location: &BucketLocation<'_>,
) -> Result<Box<dyn ObjectSink>, SinkError> {
    Ok(match config {
        DestinationConfig::Directory { path } => Box::new(directory::open(path, location)),
        DestinationConfig::S3(config) => Box::new(s3::open(config, location)?),
        DestinationConfig::Oss(config) => Box::new(oss::open(config, location)?),
        DestinationConfig::Function(_) => {
            let problem = "a function can't store objects: name a bucket or a directory";
            return Err(SinkError::rule("destination", problem));
        }
    })
}

/// Opens a receiver of events. `name` is for logs and metrics. Does not connect.
///
/// # Errors
/// [`SinkError::ReceiverSetting`] if a setting is invalid.
pub fn event_sink(name: &str, config: &ReceiverConfig) -> Result<Box<dyn EventSink>, SinkError> {
    Ok(match config {
        ReceiverConfig::Hec(config) => Box::new(hec::open(name, config)?),
        ReceiverConfig::Syslog(config) => Box::new(syslog::open(name, config)?),
    })
}
