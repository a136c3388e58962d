use std::collections::BTreeSet;

use esker_protocol::api::ApiKey;
use esker_protocol::encode_response;
use esker_storage::validate::{RecordError, Rejected};

use super::*;

const LEADER: LeaderHint = LeaderHint { leader: 2, leader_epoch: 5 };

/// A new variant needs a number here, and a case below.
fn number(error: &ProduceError) -> usize {
    match error {
        ProduceError::Access(_) => 0,
        ProduceError::InternalTopic(_) => 1,
        ProduceError::InvalidAcks(_) => 2,
        ProduceError::NotInTransaction { .. } => 3,
        ProduceError::NotEnoughReplicas { .. } => 4,
        ProduceError::Rejected(_) => 5,
        ProduceError::Append(_) => 6,
        ProduceError::TimedOut => 7,
        ProduceError::NotFlushed => 8,
        ProduceError::NotEnoughReplicasAfterAppend => 9,
    }
}

#[test]
fn every_error_can_be_answered_in_every_version() {
    let code = ErrorCode::INVALID_TXN_STATE;
    let record_errors = vec![RecordError { batch_index: 3, message: "no key".to_owned() }];
    let errors = [
        AccessError::UnknownPartition.into(),
        AccessError::NotLeader(LEADER).into(),
        AccessError::FencedLeaderEpoch { requested: 1, current: LEADER }.into(),
        ProduceError::InternalTopic("__consumer_offsets".to_owned()),
        ProduceError::InvalidAcks(7),
        ProduceError::NotInTransaction { code, underlying: code },
        ProduceError::NotEnoughReplicas { in_sync: 1, required: 2 },
        Rejected { reason: RejectReason::InvalidRecord("no key".to_owned()), record_errors }.into(),
        AppendError::LargerThanSegment { size: 9, segment_bytes: 8 }.into(),
        ProduceError::TimedOut,
        ProduceError::NotFlushed,
        ProduceError::NotEnoughReplicasAfterAppend,
    ];
    assert_eq!(errors.iter().map(number).collect::<BTreeSet<_>>(), (0..10).collect());
    for (error, version) in errors.iter().flat_map(|error| Produce::VERSIONS.map(move |version| (error, version))) {
        let mut answers = Answers { version, ..Answers::default() };
        let data = answers.failed(0, error);
        assert!(data.error_code.is_error());
        let topic = TopicProduceResponse { partition_responses: vec![data], ..TopicProduceResponse::default() };
        let node_endpoints = answers.hints.keys().map(|_| NodeEndpoint::default()).collect();
        let answer = ProduceResponse { responses: vec![topic], node_endpoints, ..ProduceResponse::default() };
        let encoded = encode_response(ApiKey::PRODUCE, version, 1, &answer);
        assert!(encoded.is_ok(), "{error}, version {version}: {:?}", encoded.err());
    }
}
