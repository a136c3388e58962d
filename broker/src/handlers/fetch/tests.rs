use std::collections::BTreeSet;

use esker_protocol::api::ApiKey;
use esker_protocol::encode_response;
use esker_storage::ReadError;

use super::*;

const LEADER: LeaderHint = LeaderHint { leader: 2, leader_epoch: 5 };

/// A new variant needs a number here, and a case below.
fn number(error: &FetchError) -> usize {
    match error {
        FetchError::Access(AccessError::UnknownPartition) => 0,
        FetchError::Access(AccessError::UnknownTopicId) => 1,
        FetchError::Access(AccessError::InconsistentTopicId) => 2,
        FetchError::Access(AccessError::NotLeader(_)) => 3,
        FetchError::Access(AccessError::FencedLeaderEpoch { .. }) => 4,
        FetchError::Access(AccessError::UnknownLeaderEpoch { .. }) => 5,
        FetchError::Read(_) => 6,
        FetchError::UnsupportedCompression => 7,
        FetchError::Conversion(_) => 8,
        FetchError::UndefinedEpoch(_) => 9,
    }
}

#[test]
fn every_error_can_be_answered_in_every_version() {
    let errors = [
        AccessError::UnknownPartition.into(),
        AccessError::UnknownTopicId.into(),
        AccessError::InconsistentTopicId.into(),
        AccessError::NotLeader(LEADER).into(),
        AccessError::FencedLeaderEpoch { requested: 1, current: LEADER }.into(),
        AccessError::UnknownLeaderEpoch { requested: 9, current: LEADER }.into(),
        ReadError::Closed.into(),
        ReadError::OffsetOutOfRange { offset: 1, log_start_offset: 2, log_end_offset: 3 }.into(),
        FetchError::UnsupportedCompression,
        FetchError::Conversion("no".to_owned()),
        FetchError::UndefinedEpoch(3),
    ];
    assert_eq!(errors.iter().map(number).collect::<BTreeSet<_>>(), (0..10).collect());
    for (error, version) in errors.iter().flat_map(|error| Fetch::VERSIONS.map(move |version| (error, version))) {
        let mut hints = BTreeMap::new();
        let data = failed(version, 0, error, &mut hints);
        assert!(data.error_code.is_error());
        let topic = FetchableTopicResponse { partitions: vec![data], ..FetchableTopicResponse::default() };
        let node_endpoints = hints.keys().map(|_| NodeEndpoint::default()).collect();
        let answer = FetchResponse { responses: vec![topic], node_endpoints, ..FetchResponse::default() };
        let encoded = encode_response(ApiKey::FETCH, version, 1, &answer);
        assert!(encoded.is_ok(), "{error}, version {version}: {:?}", encoded.err());
    }
}

#[test]
fn clients_that_do_not_know_storage_errors_are_sent_to_the_leader() {
    let error = FetchError::from(ReadError::Closed);
    for version in Fetch::VERSIONS {
        let expected = if version >= 6 { ErrorCode::KAFKA_STORAGE_ERROR } else { ErrorCode::NOT_LEADER_OR_FOLLOWER };
        assert_eq!(failed(version, 0, &error, &mut BTreeMap::new()).error_code, expected, "version {version}");
    }
}

#[test]
fn only_brokers_read_past_the_high_watermark() {
    for replica in [-1, -2, -3, i32::MIN] {
        assert_eq!(bound_of(replica, 0), ReadBound::HighWatermark);
        assert_eq!(bound_of(replica, 1), ReadBound::LastStable);
    }
    for isolation in [0, 1] {
        assert_eq!(bound_of(0, isolation), ReadBound::LogEnd);
    }
}
