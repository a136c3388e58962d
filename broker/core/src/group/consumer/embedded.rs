//! The consumer protocol inside the classic one: subscriptions and assignments as the members' clients encode them.

use bytes::Bytes;
use esker_protocol::Message as _;
use esker_protocol::messages::consumer_protocol::{
    AssignedPartitions, ConsumerProtocolAssignment, ConsumerProtocolSubscription,
};
use esker_protocol::messages::internal::consumer_groups::ClassicProtocol;
use esker_protocol::primitives::{DecodeError, Reader, Str, Writer};

use super::member::Partitions;
use crate::group::member::Protocol;
use crate::metadata::MetadataImage;

/// A protocol of a member as the record of a consumer group has it.
pub(super) fn classic_protocol(protocol: &Protocol) -> ClassicProtocol {
    ClassicProtocol { name: protocol.name.clone(), metadata: protocol.metadata.clone() }
}

/// A version of the consumer protocol that is read: what is newer is read as the newest that there is.
fn version(r: &mut Reader) -> Result<i16, DecodeError> {
    r.i16().map(|version| version.clamp(0, ConsumerProtocolSubscription::SCHEMA.versions.last))
}

pub(super) fn read_subscription(bytes: Bytes) -> Result<ConsumerProtocolSubscription, DecodeError> {
    let mut r = Reader::new(bytes);
    let version = version(&mut r)?;
    ConsumerProtocolSubscription::decode(&mut r, version)
}

/// The topics that a member of the classic protocol subscribes to, sorted.
pub(in crate::group) fn subscribed_topics(metadata: Bytes) -> Option<Vec<Str>> {
    let mut topics = read_subscription(metadata).ok()?.topics;
    topics.sort_unstable();
    Some(topics)
}

pub(super) fn read_assignment(bytes: Bytes) -> Result<ConsumerProtocolAssignment, DecodeError> {
    let mut r = Reader::new(bytes);
    let version = version(&mut r)?;
    ConsumerProtocolAssignment::decode(&mut r, version)
}

/// An assignment for a member of the classic protocol, in the member's version of it.
pub(super) fn assignment_bytes(partitions: &Partitions, metadata: &Bytes, image: &MetadataImage) -> Bytes {
    let version = version(&mut Reader::new(metadata.clone())).unwrap_or_default();
    let named = partitions.iter().filter_map(|(topic, list)| Some((image.topic_by_id(*topic)?, list)));
    let assigned =
        named.map(|(topic, list)| AssignedPartitions { topic: topic.name.clone(), partitions: list.clone() });
    let assignment = ConsumerProtocolAssignment { assigned_partitions: assigned.collect(), user_data: None };
    let mut w = Writer::new();
    w.put_i16(version);
    // Names and numbers that were read from a log fit into what is written.
    let _ = assignment.encode(&mut w, version);
    w.finish().into_bytes()
}
