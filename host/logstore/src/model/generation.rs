//! Generations: the lives of a store.

use std::fmt;

/// A generation of the store: the time from its creation, or from the moment that its data was found to be of another
/// life, to the next such moment. The positions of each generation are its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// The number, from 1 on.
    pub number: u32,
    /// A random name, in hexadecimal. Two copies of a store have the same number and different tokens.
    pub token: String,
    /// The time of its begin, in Unix microseconds.
    pub began: u64,
    /// Its reason.
    pub reason: GenerationReason,
    /// The number of acknowledged log groups of the earlier generation that are gone.
    pub lost_groups: u64,
}

/// The reason for a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GenerationReason {
    /// The store was created, or is of a logship without generations.
    Created,
    /// `logship restore` restored a backup.
    Restored,
    /// The data directory is a copy of another one.
    Copied,
    /// Acknowledged positions are gone: the write-ahead log was lost, or an older database was put in place.
    RolledBack,
    /// The database was put in place without its high-water mark, or with that of another store.
    Replaced,
}

impl GenerationReason {
    /// All reasons.
    const ALL: [Self; 5] = [Self::Created, Self::Restored, Self::Copied, Self::RolledBack, Self::Replaced];

    /// Returns the name in the database and in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Restored => "restored",
            Self::Copied => "copied",
            Self::RolledBack => "rolled-back",
            Self::Replaced => "replaced",
        }
    }

    /// Returns the reason of a name. A newer logship may know others.
    pub(crate) fn parse(name: &str) -> Self {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name).unwrap_or(Self::Replaced)
    }
}

impl fmt::Display for GenerationReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Created => "the store was created",
            Self::Restored => "the store was restored from a backup",
            Self::Copied => "the data directory is a copy",
            Self::RolledBack => "acknowledged logs are gone: the write-ahead log (logstore.db-wal) was lost, or an older database was put in place",
            Self::Replaced => "the database was put in place without the high-water mark of its data directory",
        })
    }
}
