//! Records as bytes, and the record level that gates them.
//!
//! A record is `type u16, version i16, body`. Each version of each type belongs to the [`RecordLevel`] that introduced it. The first record
//! of a log is its level ([`LevelRecord`]); records above it are not written, so that a node that cannot read them never meets them. The
//! level rises with UpdateFeatures of `metadata.version`, once every registered broker can read the new one (`controller::features`).
//! It is no feature of its own: clients see Kafka's `metadata.version`, whose numbers belong to Kafka's releases and are independent of
//! Esker's records.
//!
//! A type or a version that is not known is an error, never skipped: an image that missed a record would be a wrong one. A newer log
//! meets an older binary at its level first, and that record names the version of Esker that wrote it.
//!
//! To add a record or a version of one: raise [`RecordLevel::NEWEST`] and give it that level below. Types 1 to 7 belonged to builds
//! before the first release and stay unused.

use bytes::Bytes;
use esker_protocol::Message;
use esker_protocol::primitives::{DecodeError, EncodeError, Reader, Writer};
use thiserror::Error;

use super::record::{
    BrokerChangeRecord, BrokerRecord, ConfigRecord, FeatureRecord, LevelRecord, NewLeaderEpochsRecord,
    NodeReservationRecord, PartitionChangeRecord, PartitionRecord, ProducerIdsRecord, RemoveTopicRecord,
    RemovedVoterRecord, TopicRecord, UnregisterBrokerRecord,
};

/// Which records a log may hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordLevel(pub i16);

impl RecordLevel {
    /// An empty log: only its level may be written.
    pub const NONE: Self = Self(0);
    /// The newest level that this version of Esker reads and writes.
    pub const NEWEST: Self = Self::CORDONED_DIRECTORIES;
    /// From here on node ids belong to metadata folders, and removed voters are remembered: a cluster of several nodes needs both.
    pub const NODE_IDENTITIES: Self = Self(2);
    /// From here on a registration says which log dirs the broker's own configuration cordons (KIP-1066).
    pub const CORDONED_DIRECTORIES: Self = Self(3);
}

/// The version of Esker, as it is named in a log.
pub const SOFTWARE: &str = env!("CARGO_PKG_VERSION");

/// Why bytes are no record.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The log is at a level that a later version of Esker wrote.
    #[error(
        "the metadata is at record level {level}, written by Esker {software}; this is Esker {SOFTWARE}, which reads levels up to {}: start Esker {software} or a later version",
        RecordLevel::NEWEST.0
    )]
    LaterLevel {
        /// The level.
        level: i16,
        /// The version that raised the log to it.
        software: String,
    },
    /// A type that no level up to the newest has.
    #[error(
        "metadata record of type {0}: Esker {SOFTWARE} does not know it, so another version wrote it; start the version that used this data folder last"
    )]
    UnknownType(u16),
    /// A version that no level up to the newest has.
    #[error(
        "metadata record of type {kind} in version {version}: Esker {SOFTWARE} does not know it, so another version wrote it; start the version that used this data folder last"
    )]
    UnknownVersion {
        /// The type.
        kind: u16,
        /// The version.
        version: i16,
    },
    /// The body cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Why a record cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordEncodeError {
    /// The cluster is not at the level that has the record.
    #[error(
        "a metadata record of type {kind} needs record level {needed}, and the cluster is at {}: update all brokers, then finalize with an upgrade of metadata.version", level.0
    )]
    AboveLevel {
        /// The record's type.
        kind: u16,
        /// The level that introduced it.
        needed: i16,
        /// The cluster's level.
        level: RecordLevel,
    },
    /// The body has a field that its version has not.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// The level that each version of a record needs, version 0 first.
type Levels = &'static [i16];

/// The newest version of record type `kind` that a log at `level` may hold.
fn version_at(kind: u16, levels: &[i16], level: RecordLevel) -> Result<i16, RecordEncodeError> {
    let version = levels.iter().rposition(|needed| *needed <= level.0);
    version.and_then(|version| i16::try_from(version).ok()).ok_or(RecordEncodeError::AboveLevel {
        kind,
        needed: levels.first().copied().unwrap_or(i16::MAX),
        level,
    })
}

macro_rules! records {
    ($($id:literal $variant:ident($body:ty) $levels:expr,)*) => {
        /// One change of the metadata.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs)]
        pub enum MetadataRecord {
            $($variant($body),)*
        }

        impl MetadataRecord {
            /// The record's type, and the levels of its versions.
            fn kind(&self) -> (u16, Levels) {
                match self {
                    $(Self::$variant(_) => ($id, &$levels),)*
                }
            }

            /// All types, in order.
            #[cfg(test)]
            const KINDS: &[u16] = &[$($id,)*];

            fn encode_body(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError> {
                match self {
                    $(Self::$variant(body) => body.encode(w, version),)*
                }
            }

            fn decode_body(r: &mut Reader, kind: u16, version: i16) -> Result<Self, RecordError> {
                let check = |levels: Levels| match usize::try_from(version) {
                    Ok(at) if at < levels.len() => Ok(()),
                    _ => Err(RecordError::UnknownVersion { kind, version }),
                };
                match kind {
                    $($id => {
                        check(&$levels)?;
                        Ok(Self::$variant(Message::decode(r, version)?))
                    })*
                    _ => Err(RecordError::UnknownType(kind)),
                }
            }
        }
    };
}

// Type, body, and for each of its versions the level that introduced it.
records! {
    10 Level(LevelRecord) [RecordLevel::NONE.0],
    11 Broker(BrokerRecord) [1, 3],
    12 BrokerChange(BrokerChangeRecord) [1],
    13 UnregisterBroker(UnregisterBrokerRecord) [1],
    14 Topic(TopicRecord) [1],
    15 RemoveTopic(RemoveTopicRecord) [1],
    16 Partition(PartitionRecord) [1],
    17 PartitionChange(PartitionChangeRecord) [1],
    18 Config(ConfigRecord) [1],
    19 Feature(FeatureRecord) [1],
    20 ProducerIds(ProducerIdsRecord) [1],
    21 NewLeaderEpochs(NewLeaderEpochsRecord) [1],
    22 NodeReservation(NodeReservationRecord) [2],
    23 RemovedVoter(RemovedVoterRecord) [2],
}

impl MetadataRecord {
    /// The level of a new log.
    pub fn newest_level() -> Self {
        Self::Level(LevelRecord { level: RecordLevel::NEWEST.0, software: SOFTWARE.into() })
    }

    /// Writes the record with its type, in the newest version that `level` has.
    fn encode(&self, w: &mut Writer, level: RecordLevel) -> Result<(), RecordEncodeError> {
        let (kind, levels) = self.kind();
        let version = version_at(kind, levels, level)?;
        w.put_u16(kind);
        w.put_i16(version);
        Ok(self.encode_body(w, version)?)
    }

    /// Reads one record.
    pub fn decode(r: &mut Reader) -> Result<Self, RecordError> {
        let (kind, version) = (r.u16()?, r.i16()?);
        match Self::decode_body(r, kind, version)? {
            Self::Level(later) if later.level > RecordLevel::NEWEST.0 => {
                Err(RecordError::LaterLevel { level: later.level, software: later.software.to_string() })
            }
            record => Ok(record),
        }
    }

    /// Records of one entry, one behind the other. The log is at `level` before the first of them.
    pub fn encode_all(records: &[Self], mut level: RecordLevel) -> Result<Bytes, RecordEncodeError> {
        let mut w = Writer::new();
        for record in records {
            record.encode(&mut w, level)?;
            level = record.raised(level);
        }
        Ok(w.finish().into_bytes())
    }

    /// Reads records until the bytes end.
    pub fn decode_all(bytes: Bytes) -> Result<Vec<Self>, RecordError> {
        let mut r = Reader::new(bytes);
        let mut records = Vec::new();
        while r.remaining() > 0 {
            records.push(Self::decode(&mut r)?);
        }
        Ok(records)
    }

    /// The level of a log at `level` once it holds this record, too. It never falls: what is written stays written.
    pub(super) fn raised(&self, level: RecordLevel) -> RecordLevel {
        match self {
            Self::Level(record) => level.max(RecordLevel(record.level)),
            _ => level,
        }
    }
}

#[cfg(test)]
mod tests;
