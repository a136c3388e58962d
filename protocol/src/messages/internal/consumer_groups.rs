//! Records of `__consumer_offsets` for consumer groups (KIP-848): seven kinds, which together are a group.
//!
//! A group is its epoch (3); its members as they describe themselves (5); the target assignment, its epoch (6) and each
//! member's part (7); what each member has now (8); and the topics that regular expressions match (16). Kind 4 is of
//! versions before 4.1, and is only ever taken away.

use bytes::Bytes;
use esker_protocol_derive::Message;

use super::prefixed;
use crate::primitives::{DecodeError, EncodeError, Reader, Str, Uuid, Writer};
use crate::schema::Kind;
use crate::wire::{Codec, Value};

/// Key type 3: a consumer group.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "3", flexible = "none")]
pub struct ConsumerGroupMetadataKey {
    /// The group.
    pub group_id: Str,
}

/// A consumer group: its epoch.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct ConsumerGroupMetadataValue {
    /// Rises with each change of members, subscriptions or topics.
    pub epoch: i32,
    /// A hash over the topics that are subscribed to, as they were at this epoch.
    #[field(tag = 0, tagged = "0+")]
    pub metadata_hash: i64,
}

/// Key type 4: topics as a group knew them; written by Kafka before 4.1.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "4", flexible = "none")]
pub struct ConsumerGroupPartitionMetadataKey {
    /// The group.
    pub group_id: Str,
}

/// Key type 5: a member of a consumer group.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "5", flexible = "none")]
pub struct ConsumerGroupMemberMetadataKey {
    /// The group.
    pub group_id: Str,
    /// The member.
    pub member_id: Str,
}

/// A member as it describes itself.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct ConsumerGroupMemberMetadataValue {
    /// `group.instance.id` of a static member.
    #[field(nullable = "0+")]
    pub instance_id: Option<Str>,
    /// `client.rack`.
    #[field(nullable = "0+")]
    pub rack_id: Option<Str>,
    /// The client's name for itself.
    pub client_id: Str,
    /// Where it connects from.
    pub client_host: Str,
    /// Topics that it names.
    pub subscribed_topic_names: Vec<Str>,
    /// A regular expression for more of them.
    #[field(nullable = "0+")]
    pub subscribed_topic_regex: Option<Str>,
    /// How long it may take to give partitions back, in ms.
    #[field(default = -1)]
    pub rebalance_timeout_ms: i32,
    /// The assignor that it wishes for.
    #[field(nullable = "0+")]
    pub server_assignor: Option<Str>,
    /// Its metadata in the classic protocol, if the member uses that.
    #[field(tag = 0, tagged = "0+")]
    pub classic_member_metadata: ClassicMember,
}

/// The classic metadata of a member that uses the classic protocol.
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ClassicMemberMetadata {
    /// Session time-out in ms.
    pub session_timeout_ms: i32,
    /// Its protocols, in order of preference.
    pub supported_protocols: Vec<ClassicProtocol>,
}

/// One element of `supported_protocols` in [`ClassicMemberMetadata`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ClassicProtocol {
    /// E.g. `range`.
    pub name: Str,
    /// Its metadata for it.
    pub metadata: Bytes,
}

/// [`ClassicMemberMetadata`] or null. In Kafka the field's default is an empty struct and not null, so null is always
/// written, and it is one byte 0 where other nullable structs have -1.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassicMember(pub Option<ClassicMemberMetadata>);

impl Default for ClassicMember {
    fn default() -> Self {
        Self(Some(ClassicMemberMetadata::default()))
    }
}

impl Value for ClassicMember {
    const KIND: Kind = ClassicMemberMetadata::KIND;
    const MINIMUM: usize = 1;
    fn read(r: &mut Reader, c: Codec) -> Result<Self, DecodeError> {
        Ok(Self(if r.i8()? <= 0 { None } else { Some(ClassicMemberMetadata::read(r, c)?) }))
    }
    fn write(&self, w: &mut Writer, c: Codec) -> Result<(), EncodeError> {
        w.put_i8(i8::from(self.0.is_some()));
        self.0.as_ref().map_or(Ok(()), |metadata| metadata.write(w, c))
    }
}

/// Key type 6: the target assignment of a group.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "6", flexible = "none")]
pub struct ConsumerGroupTargetAssignmentMetadataKey {
    /// The group.
    pub group_id: Str,
}

/// The group epoch that the target assignment was made for.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct ConsumerGroupTargetAssignmentMetadataValue {
    /// That epoch.
    pub assignment_epoch: i32,
    /// When it was made, in ms.
    #[field(tag = 0, tagged = "0+")]
    pub assignment_timestamp: i64,
}

/// Key type 7: a member's part of the target assignment.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "7", flexible = "none")]
pub struct ConsumerGroupTargetAssignmentMemberKey {
    /// The group.
    pub group_id: Str,
    /// The member.
    pub member_id: Str,
}

/// What a member is to have.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct ConsumerGroupTargetAssignmentMemberValue {
    /// By topic.
    pub topic_partitions: Vec<TargetTopicPartition>,
}

/// One element of `topic_partitions` in [`ConsumerGroupTargetAssignmentMemberValue`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct TargetTopicPartition {
    /// The topic.
    pub topic_id: Uuid,
    /// Its partitions.
    pub partitions: Vec<i32>,
}

/// Key type 8: what a member has now.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "8", flexible = "none")]
pub struct ConsumerGroupCurrentMemberAssignmentKey {
    /// The group.
    pub group_id: Str,
    /// The member.
    pub member_id: Str,
}

/// What a member has now, and where it is on its way to the target.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct ConsumerGroupCurrentMemberAssignmentValue {
    /// The epoch in the member's responses.
    pub member_epoch: i32,
    /// The epoch before: the response with the newer one may be lost.
    pub previous_member_epoch: i32,
    /// 0 stable, 1 unrevoked partitions, 2 unreleased partitions.
    pub state: i8,
    /// What it owns.
    pub assigned_partitions: Vec<OwnedTopicPartitions>,
    /// Partitions that it must revoke.
    pub partitions_pending_revocation: Vec<OwnedTopicPartitions>,
}

/// Shared by two fields of [`ConsumerGroupCurrentMemberAssignmentValue`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OwnedTopicPartitions {
    /// The topic.
    pub topic_id: Uuid,
    /// Its partitions.
    pub partitions: Vec<i32>,
    /// For each partition the epoch at which the member got it (KIP-1251).
    #[field(nullable = "0+", tag = 0, tagged = "0+")]
    pub assignment_epochs: Option<Vec<i32>>,
}

/// Key type 16: a regular expression that members of a group subscribe with.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "16", flexible = "none")]
pub struct ConsumerGroupRegularExpressionKey {
    /// The group.
    pub group_id: Str,
    /// The expression.
    pub regular_expression: Str,
}

/// The topics that an expression matches.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
pub struct ConsumerGroupRegularExpressionValue {
    /// Their names.
    pub topics: Vec<Str>,
    /// The version of the metadata that they are of.
    pub version: i64,
    /// When they were looked for, in ms.
    pub timestamp: i64,
}

macro_rules! records {
    ($($kind:literal $variant:ident($key:ty, $value:ty),)*) => {
        /// A record of a consumer group: a key, and a value or none to take it away.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs)]
        pub enum ConsumerGroupRecord {
            $($variant($key, Option<$value>),)*
            /// Key type 4, taken away.
            PartitionMetadata(ConsumerGroupPartitionMetadataKey, Option<Bytes>),
        }

        impl ConsumerGroupRecord {
            /// Whether a key of this type is one of a consumer group.
            pub fn has_kind(kind: i16) -> bool {
                [4, $($kind,)*].contains(&kind)
            }

            /// Reads a record. The value of key type 4 is not looked into.
            pub fn decode(key: Bytes, value: Option<Bytes>) -> Result<Option<Self>, DecodeError> {
                let mut r = Reader::new(key);
                Ok(Some(match r.i16()? {
                    $($kind => Self::$variant(
                        <$key as crate::Message>::decode(&mut r, $kind)?,
                        value.map(|value| {
                            let mut r = Reader::new(value);
                            let version = r.i16()?;
                            <$value as crate::Message>::decode(&mut r, version)
                        }).transpose()?,
                    ),)*
                    4 => Self::PartitionMetadata(<ConsumerGroupPartitionMetadataKey as crate::Message>::decode(&mut r, 4)?, value),
                    _ => return Ok(None),
                }))
            }

            /// Key and value as they are written.
            pub fn to_bytes(&self) -> Result<(Bytes, Option<Bytes>), EncodeError> {
                Ok(match self {
                    $(Self::$variant(key, value) =>
                        (prefixed(key, $kind)?, value.as_ref().map(|v| prefixed(v, 0)).transpose()?),)*
                    Self::PartitionMetadata(key, value) => (prefixed(key, 4)?, value.clone()),
                })
            }

            /// The group that it is about.
            pub fn group_id(&self) -> &Str {
                match self {
                    $(Self::$variant(key, _) => &key.group_id,)*
                    Self::PartitionMetadata(key, _) => &key.group_id,
                }
            }

            /// Whether it takes something away.
            pub fn is_tombstone(&self) -> bool {
                match self {
                    $(Self::$variant(_, value) => value.is_none(),)*
                    Self::PartitionMetadata(_, value) => value.is_none(),
                }
            }
        }
    };
}

records! {
    3 Group(ConsumerGroupMetadataKey, ConsumerGroupMetadataValue),
    5 Member(ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataValue),
    6 Target(ConsumerGroupTargetAssignmentMetadataKey, ConsumerGroupTargetAssignmentMetadataValue),
    7 TargetMember(ConsumerGroupTargetAssignmentMemberKey, ConsumerGroupTargetAssignmentMemberValue),
    8 Current(ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue),
    16 RegularExpression(ConsumerGroupRegularExpressionKey, ConsumerGroupRegularExpressionValue),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// What Kafka 4.4's own classes write.
    #[test]
    fn bytes_are_kafkas() {
        let (g, m): (Str, Str) = ("g".into(), "m".into());
        let id = Uuid([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
        let group = |epoch, metadata_hash| {
            ConsumerGroupRecord::Group(
                ConsumerGroupMetadataKey { group_id: g.clone() },
                Some(ConsumerGroupMetadataValue { epoch, metadata_hash }),
            )
        };
        let member = |value| {
            let key = ConsumerGroupMemberMetadataKey { group_id: g.clone(), member_id: m.clone() };
            ConsumerGroupRecord::Member(key, Some(value))
        };
        let target = |assignment_timestamp| {
            ConsumerGroupRecord::Target(
                ConsumerGroupTargetAssignmentMetadataKey { group_id: g.clone() },
                Some(ConsumerGroupTargetAssignmentMetadataValue { assignment_epoch: 7, assignment_timestamp }),
            )
        };
        let owned =
            |partitions, assignment_epochs| OwnedTopicPartitions { topic_id: id, partitions, assignment_epochs };
        let plain = ConsumerGroupMemberMetadataValue {
            client_id: "c".into(),
            client_host: "/h".into(),
            ..ConsumerGroupMemberMetadataValue::default()
        };
        let range = ClassicProtocol { name: "range".into(), metadata: Bytes::from_static(&[1, 2]) };
        let cases = [
            (group(7, 0), "0003000167", "00000000000700"),
            (group(7, 0x1122_3344_5566_7788), "0003000167", "0000000000070100081122334455667788"),
            (
                member(ConsumerGroupMemberMetadataValue {
                    classic_member_metadata: ClassicMember(None),
                    ..plain.clone()
                }),
                "000500016700016d",
                "000000000263032f680100ffffffff0001000100",
            ),
            (
                member(ConsumerGroupMemberMetadataValue {
                    instance_id: Some("".into()),
                    rack_id: Some("".into()),
                    server_assignor: Some("".into()),
                    classic_member_metadata: ClassicMember(Some(ClassicMemberMetadata {
                        session_timeout_ms: 5000,
                        supported_protocols: vec![range],
                    })),
                    ..plain
                }),
                "000500016700016d",
                "000001010263032f680100ffffffff010100110100001388020672616e67650301020000",
            ),
            (target(0), "0006000167", "00000000000700"),
            (target(1000), "0006000167", "00000000000701000800000000000003e8"),
            (
                ConsumerGroupRecord::TargetMember(
                    ConsumerGroupTargetAssignmentMemberKey { group_id: g.clone(), member_id: m.clone() },
                    Some(ConsumerGroupTargetAssignmentMemberValue {
                        topic_partitions: vec![TargetTopicPartition { topic_id: id, partitions: vec![0, 1] }],
                    }),
                ),
                "000700016700016d",
                "0000020102030405060708090a0b0c0d0e0f100300000000000000010000",
            ),
            (
                ConsumerGroupRecord::Current(
                    ConsumerGroupCurrentMemberAssignmentKey { group_id: g.clone(), member_id: m.clone() },
                    Some(ConsumerGroupCurrentMemberAssignmentValue {
                        member_epoch: 7,
                        previous_member_epoch: 6,
                        state: 1,
                        assigned_partitions: vec![owned(vec![0, 1], Some(vec![5, 7]))],
                        partitions_pending_revocation: vec![owned(vec![2], None)],
                    }),
                ),
                "000800016700016d",
                "0000000000070000000601020102030405060708090a0b0c0d0e0f10030000000000000001010009030000000500000007020102030405060708090a0b0c0d0e0f1002000000020000",
            ),
            (
                ConsumerGroupRecord::RegularExpression(
                    ConsumerGroupRegularExpressionKey { group_id: g.clone(), regular_expression: "t.*".into() },
                    Some(ConsumerGroupRegularExpressionValue { topics: vec!["t1".into()], version: 3, timestamp: 9 }),
                ),
                "00100001670003742e2a",
                "0000020374310000000000000003000000000000000900",
            ),
        ];
        for (record, key, value) in cases {
            let (k, v) = record.to_bytes().unwrap();
            assert_eq!((hex(&k), hex(v.as_ref().unwrap())), (key.to_owned(), value.to_owned()));
            assert_eq!(ConsumerGroupRecord::decode(k, v).unwrap(), Some(record));
        }
        let old = ConsumerGroupRecord::PartitionMetadata(ConsumerGroupPartitionMetadataKey { group_id: g }, None);
        assert_eq!(hex(&old.to_bytes().unwrap().0), "0004000167");
    }
}
