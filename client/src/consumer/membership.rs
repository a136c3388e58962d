//! The bytes that members of a classic consumer group exchange through the broker.

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};
use esker_protocol::Message;
use esker_protocol::messages::consumer_protocol::{
    AssignedPartitions, ConsumerProtocolAssignment, ConsumerProtocolSubscription,
};
use esker_protocol::primitives::{Reader, Str, Writer};

use crate::error::Error;
use crate::metadata::TopicPartition;

/// The version that is written: all clients read it.
const VERSION: i16 = 1;
/// The newest that is known; later ones only append fields.
const NEWEST: i16 = 3;

/// The partitions of a member.
pub type MemberAssignment = Vec<TopicPartition>;

fn encode(message: &impl Message) -> Result<Bytes, Error> {
    let mut writer = Writer::new();
    let invalid = |error| Error::Invalid(format!("the group's members cannot be told: {error}"));
    message.encode(&mut writer, VERSION).map_err(invalid)?;
    let body = writer.finish().into_bytes();
    let mut out = BytesMut::with_capacity(body.len() + 2);
    out.put_i16(VERSION);
    out.put(body);
    Ok(out.freeze())
}

fn decode<M: Message>(bytes: &Bytes) -> Option<M> {
    let mut reader = Reader::new(bytes.clone());
    let version = reader.i16().ok().filter(|version| *version >= 0)?;
    M::decode(&mut reader, version.min(NEWEST)).ok()
}

pub(super) fn encode_subscription(topics: &BTreeSet<Str>) -> Result<Bytes, Error> {
    encode(&ConsumerProtocolSubscription { topics: topics.iter().cloned().collect(), ..Default::default() })
}

pub(super) fn decode_subscription(bytes: &Bytes) -> BTreeSet<Str> {
    let subscription = decode::<ConsumerProtocolSubscription>(bytes).unwrap_or_default();
    subscription.topics.iter().map(Str::detached).collect()
}

pub(super) fn encode_assignment(partitions: &[TopicPartition]) -> Result<Bytes, Error> {
    let mut assigned: Vec<AssignedPartitions> = Vec::new();
    for tp in partitions {
        match assigned.last_mut().filter(|last| last.topic == tp.topic) {
            Some(last) => last.partitions.push(tp.partition),
            None => assigned.push(AssignedPartitions { topic: tp.topic.clone(), partitions: vec![tp.partition] }),
        }
    }
    encode(&ConsumerProtocolAssignment { assigned_partitions: assigned, user_data: None })
}

/// The partitions in a member's assignment as the broker keeps it. Empty bytes (a member without any yet) and bytes that do not
/// read are no partitions.
#[must_use]
pub fn decode_assignment(bytes: &Bytes) -> MemberAssignment {
    let assignment = decode::<ConsumerProtocolAssignment>(bytes).unwrap_or_default();
    let all = assignment.assigned_partitions.iter().flat_map(|topic| {
        let name = topic.topic.detached();
        topic.partitions.iter().map(move |partition| TopicPartition { topic: name.clone(), partition: *partition })
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        let topics: BTreeSet<Str> = ["a".into(), "b".into()].into();
        assert_eq!(decode_subscription(&encode_subscription(&topics).unwrap()), topics);
        let share = vec![TopicPartition::new("a", 0), TopicPartition::new("a", 2), TopicPartition::new("b", 1)];
        assert_eq!(decode_assignment(&encode_assignment(&share).unwrap()), share);
        assert!(decode_assignment(&Bytes::new()).is_empty());
        assert!(decode_assignment(&Bytes::from_static(&[0, 1, 0x7f, 0xff, 0xff, 0xff])).is_empty());
    }
}
