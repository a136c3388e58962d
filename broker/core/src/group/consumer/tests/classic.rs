//! What a member of the classic protocol says, for scripts and properties.

use bytes::Bytes;
use esker_protocol::Message as _;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::consumer_protocol::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, OwnedPartitions,
};
use esker_protocol::primitives::{Reader, Str, Writer};

use super::world::World;
use crate::coordinator::Token;
use crate::group::consumer::Partitions;
use crate::group::{Identity, JoinReply, JoinRequest, Protocol, Reply, SyncReply, SyncRequest};

/// A JoinGroup of a consumer that knows the assignor `range`.
pub(super) fn join(world: &World, group: &str, topics: &[&str], owned: &Partitions) -> JoinRequest {
    let topic_name = |id| world.image.topic_by_id(id).map(|topic| topic.name.clone());
    let subscription = ConsumerProtocolSubscription {
        topics: topics.iter().map(|topic| Str::copy(topic)).collect(),
        owned_partitions: owned
            .iter()
            .filter_map(|(id, partitions)| {
                Some(OwnedPartitions { topic: topic_name(*id)?, partitions: partitions.clone() })
            })
            .collect(),
        ..ConsumerProtocolSubscription::default()
    };
    let mut w = Writer::new();
    w.put_i16(2);
    subscription.encode(&mut w, 2).unwrap();
    JoinRequest {
        group: Str::copy(group),
        member_id: Str::default(),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/host".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![Protocol { name: "range".into(), metadata: w.finish().into_bytes() }],
        require_known_member_id: false,
        can_skip_assignment: false,
        fresh: "fresh".into(),
    }
}

impl World {
    /// The answer to a JoinGroup; `None` if it waits for others.
    pub fn classic_join(&mut self, request: JoinRequest) -> Option<JoinReply> {
        let token = self.token();
        let effects = self.shard.join(request, token, self.now);
        if !self.take_if_written(effects) {
            return Some(JoinReply::failed(ErrorCode::COORDINATOR_NOT_AVAILABLE, &Str::default()));
        }
        match self.answers.get(&token) {
            None => None,
            Some(Reply::Join(reply)) => Some(reply.clone()),
            other => panic!("{other:?}"),
        }
    }

    /// The answer to a SyncGroup; `None` if it waits for the leader's.
    pub fn classic_sync(&mut self, group: &str, identity: Identity) -> Option<SyncReply> {
        let request = SyncRequest {
            group: Str::copy(group),
            identity,
            protocol_type: Some("consumer".into()),
            protocol: Some("range".into()),
            assignments: Vec::new(),
        };
        let token = self.token();
        let effects = self.shard.sync(request, token, self.now);
        self.take(effects);
        match self.answers.get(&token) {
            None => None,
            Some(Reply::Sync(reply)) => Some(reply.clone()),
            other => panic!("{other:?}"),
        }
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        self.tokens
    }

    /// What an assignment of the classic protocol says; nothing if it is empty. Topics that are gone are left out.
    pub fn classic_assignment(&self, bytes: Bytes) -> Partitions {
        if bytes.is_empty() {
            return Partitions::new();
        }
        let mut r = Reader::new(bytes);
        let version = r.i16().unwrap();
        let assignment = ConsumerProtocolAssignment::decode(&mut r, version).unwrap();
        let topic = |name: &str| self.image.topic(name).map(|topic| topic.id);
        let assigned = assignment.assigned_partitions.iter();
        assigned.filter_map(|a| Some((topic(&a.topic)?, a.partitions.clone()))).collect()
    }
}
