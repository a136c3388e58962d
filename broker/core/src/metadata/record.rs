//! The records of the metadata log.
//!
//! On disk a record is `type u16, version i16, body`; bodies are messages with tagged fields, so that a later version can
//! add to them without a new type. A type that is not known is an error, never skipped: an image that missed a record
//! would be a wrong one.

use bytes::Bytes;
use esker_protocol::Message;
use esker_protocol::primitives::{DecodeError, EncodeError, Reader, Str, Uuid, Writer};
use thiserror::Error;

/// A broker joins, or comes back with another incarnation.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct BrokerRecord {
    /// `node.id`.
    pub node_id: i32,
    /// Rises with each registration.
    pub epoch: i64,
    /// Changes with each start.
    pub incarnation: Uuid,
    /// Where it listens.
    pub listeners: Vec<ListenerRecord>,
    /// `broker.rack`.
    #[field(nullable = "0+")]
    pub rack: Option<Str>,
    /// Ids of its log dirs.
    pub log_dirs: Vec<Uuid>,
    /// It may not lead.
    pub fenced: bool,
}

/// One listener, as clients reach it.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ListenerRecord {
    /// Its name.
    pub name: Str,
    /// Advertised host.
    pub host: Str,
    /// Advertised port.
    pub port: i32,
}

/// A topic is made.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct TopicRecord {
    /// Its name.
    pub name: Str,
    /// Its id.
    pub id: Uuid,
}

/// A partition is made or changes.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct PartitionRecord {
    /// The topic.
    pub topic_id: Uuid,
    /// Its number.
    pub partition: i32,
    /// Replicas, in order of preference.
    pub replicas: Vec<i32>,
    /// Replicas in sync.
    pub isr: Vec<i32>,
    /// The leader, -1 for none.
    #[field(default = -1)]
    pub leader: i32,
    /// Rises with each change of leader.
    pub leader_epoch: i32,
    /// Rises with each change.
    pub partition_epoch: i32,
    /// Replicas that hold all committed records though they are not in sync (KIP-966).
    pub elr: Vec<i32>,
    /// The last members of the ELR before it became empty.
    pub last_known_elr: Vec<i32>,
}

/// A topic is deleted.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct RemoveTopicRecord {
    /// Its id.
    pub id: Uuid,
}

/// A config is set, or removed when there is no value.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct ConfigRecord {
    /// Kafka's number of the resource type.
    pub resource_type: i8,
    /// The resource's name.
    pub resource_name: Str,
    /// The config's name.
    pub name: Str,
    /// Its value.
    #[field(nullable = "0+")]
    pub value: Option<Str>,
}

/// A feature is raised or lowered.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct FeatureRecord {
    /// Its name.
    pub name: Str,
    /// Its level; 0 removes it.
    pub level: i16,
}

/// Producer ids below `next` are given away.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct ProducerIdsRecord {
    /// Who got the last block.
    pub node_id: i32,
    /// The first id that nobody has.
    pub next: i64,
}

/// A broker started: each partition that it leads begins a new leader epoch (KIP-101, KIP-320). One record for all of them: a
/// start with ten thousand partitions stays cheap.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct NewLeaderEpochsRecord {
    /// The leader.
    pub node_id: i32,
}

/// Why bytes are no record.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordError {
    /// Written by a later version of Esker.
    #[error(
        "metadata record of type {0}: this version of Esker does not know it; was the data folder used by a later one?"
    )]
    UnknownType(u16),
    /// The body cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

macro_rules! records {
    ($($id:literal $variant:ident($body:ty),)*) => {
        /// One change of the metadata.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs)]
        pub enum MetadataRecord {
            $($variant($body),)*
        }

        impl MetadataRecord {
            /// Writes the record with its type and version.
            pub fn encode(&self, w: &mut Writer) -> Result<(), EncodeError> {
                match self {
                    $(Self::$variant(body) => {
                        w.put_u16($id);
                        w.put_i16(0);
                        body.encode(w, 0)
                    })*
                }
            }

            /// Reads one record.
            pub fn decode(r: &mut Reader) -> Result<Self, RecordError> {
                let (kind, version) = (r.u16()?, r.i16()?);
                match kind {
                    $($id => Ok(Self::$variant(Message::decode(r, version)?)),)*
                    _ => Err(RecordError::UnknownType(kind)),
                }
            }
        }
    };
}

records! {
    1 Broker(BrokerRecord),
    2 Topic(TopicRecord),
    3 Partition(PartitionRecord),
    4 RemoveTopic(RemoveTopicRecord),
    5 Config(ConfigRecord),
    6 Feature(FeatureRecord),
    7 ProducerIds(ProducerIdsRecord),
    8 NewLeaderEpochs(NewLeaderEpochsRecord),
}

impl MetadataRecord {
    /// Several records, one behind the other.
    pub fn encode_all(records: &[Self]) -> Result<Bytes, EncodeError> {
        let mut w = Writer::new();
        records.iter().try_for_each(|record| record.encode(&mut w))?;
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let records = vec![
            MetadataRecord::Topic(TopicRecord { name: "t".into(), id: Uuid([7; 16]) }),
            MetadataRecord::Partition(PartitionRecord {
                topic_id: Uuid([7; 16]),
                replicas: vec![1, 2],
                isr: vec![1],
                leader: 1,
                ..PartitionRecord::default()
            }),
            MetadataRecord::Config(ConfigRecord { resource_type: 2, value: None, ..ConfigRecord::default() }),
        ];
        let bytes = MetadataRecord::encode_all(&records).unwrap();
        assert_eq!(MetadataRecord::decode_all(bytes).unwrap(), records);
    }

    #[test]
    fn an_unknown_type_is_an_error() {
        let bytes = Bytes::from_static(&[0xff, 0xff, 0, 0]);
        assert_eq!(MetadataRecord::decode_all(bytes), Err(RecordError::UnknownType(u16::MAX)));
    }
}
