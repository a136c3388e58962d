//! The group's side of the clients: a member of a classic group that commits offsets in its generation. It goes on with its member id
//! after a power cut, as a client does that connects again.

use bytes::Bytes;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::find_coordinator::FindCoordinatorRequest;
use esker_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use esker_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use esker_protocol::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic};
use esker_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use esker_protocol::primitives::Str;

use crate::access::TRIES;
use crate::client::Client;
use crate::model::{Committed, Member, PARTITIONS};
use crate::workload::{SharedModel, TOPIC};

const GROUP: &str = "g";
/// No life lasts so long.
const SESSION_MS: i32 = 600_000;

/// See the module.
#[derive(Debug, Default)]
pub struct Membership {
    /// The group has accepted a commit in this life of the broker.
    accepted: bool,
}

impl Membership {
    /// Commits an offset in the member's generation; joins first if it is no member.
    pub async fn commit(&mut self, client: &mut Client, model: &SharedModel, partition: usize, offset: i64) {
        let member = model.lock().unwrap().member.clone();
        let Some(member) = member else { return join(client, model).await };
        {
            let committed = &mut model.lock().unwrap().committed[partition];
            committed.sent = committed.sent.max(offset);
        }
        let wanted = OffsetCommitRequestPartition {
            partition_index: partition as i32,
            committed_offset: offset,
            committed_leader_epoch: -1,
            ..OffsetCommitRequestPartition::default()
        };
        let topic = OffsetCommitRequestTopic { name: TOPIC.into(), partitions: vec![wanted], ..Default::default() };
        let request = OffsetCommitRequest {
            group_id: GROUP.into(),
            generation_id_or_member_epoch: member.generation,
            member_id: member.id.into(),
            topics: vec![topic],
            ..OffsetCommitRequest::default()
        };
        let what = format!("OffsetCommit {TOPIC}-{partition} {offset} generation {}", member.generation);
        let Some(answer) = client.ask(7, &request, &what).await else { return };
        let code = answer.topics[0].partitions[0].error_code;
        client.note(&format!("OffsetCommit {code:?}"));
        let mut model = model.lock().unwrap();
        match code {
            ErrorCode::NONE => {
                model.committed[partition].acknowledged = offset;
                model.counts.commits += 1;
                self.accepted = true;
            }
            ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION => {
                model.member = None;
                if !self.accepted {
                    model.violated(format!("a member whose SyncGroup was acknowledged is gone: {code:?}"));
                }
            }
            _ => {}
        }
    }
}

/// Joins, and assigns everything to itself.
async fn join(client: &mut Client, model: &SharedModel) {
    let protocol = JoinGroupRequestProtocol { name: "range".into(), metadata: Bytes::from_static(b"m") };
    let mut request = JoinGroupRequest {
        group_id: GROUP.into(),
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: 300,
        protocol_type: "consumer".into(),
        protocols: vec![protocol],
        ..JoinGroupRequest::default()
    };
    let joined = loop {
        let Some(answer) = client.ask(7, &request, &format!("JoinGroup {}", request.member_id)).await else { return };
        client.note(&format!("JoinGroup {:?} {} {}", answer.error_code, answer.member_id, answer.generation_id));
        match answer.error_code {
            ErrorCode::NONE => break answer,
            ErrorCode::MEMBER_ID_REQUIRED => request.member_id = Str::copy(&answer.member_id),
            _ => return,
        }
    };
    let own = SyncGroupRequestAssignment { member_id: joined.member_id.clone(), assignment: Bytes::from_static(b"a") };
    let sync = SyncGroupRequest {
        group_id: GROUP.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: vec![own],
        ..SyncGroupRequest::default()
    };
    let Some(answer) = client.ask(5, &sync, "SyncGroup g").await else { return };
    client.note(&format!("SyncGroup {:?}", answer.error_code));
    if answer.error_code == ErrorCode::NONE {
        let member = Member { id: joined.member_id.to_string(), generation: joined.generation_id };
        model.lock().unwrap().member = Some(member);
    }
}

/// Holds the committed offsets against the model. `Err` is a violation.
pub async fn verify_offsets(client: &mut Client, model: &SharedModel) -> Result<(), String> {
    let find = FindCoordinatorRequest { key: GROUP.into(), ..FindCoordinatorRequest::default() };
    let topic = OffsetFetchRequestTopic { name: TOPIC.into(), partition_indexes: (0..PARTITIONS as i32).collect() };
    let request = OffsetFetchRequest { group_id: GROUP.into(), topics: Some(vec![topic]), ..Default::default() };
    for _ in 0..TRIES {
        client.lab().pause(20).await;
        let Some(found) = client.ask(3, &find, "FindCoordinator g").await else { continue };
        client.note(&format!("FindCoordinator {:?}", found.error_code));
        if found.error_code != ErrorCode::NONE {
            continue;
        }
        let Some(answer) = client.ask(5, &request, "OffsetFetch g").await else { continue };
        client.note(&format!("OffsetFetch {:?} {:?}", answer.error_code, answer.topics));
        let whole = answer.error_code == ErrorCode::NONE
            && answer.topics.first().is_some_and(|t| t.partitions.iter().all(|p| p.error_code == ErrorCode::NONE));
        if !whole {
            continue;
        }
        let mut model = model.lock().unwrap();
        for found in &answer.topics[0].partitions {
            let committed = &mut model.committed[found.partition_index as usize];
            let offset = found.committed_offset.max(0);
            if offset < committed.acknowledged || offset > committed.sent {
                return Err(format!("t-{}: offset {offset} is committed; {committed:?}", found.partition_index));
            }
            *committed = Committed { acknowledged: offset, sent: offset };
        }
        return Ok(());
    }
    Err("the group's offsets cannot be read".to_owned())
}
