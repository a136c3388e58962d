//! The APIs of Kafka 4.4: keys, names, versions, and which header a request and its answer have.
//!
//! Versions here are all that this crate reads and writes; the handlers of a broker decide what it serves.

use std::fmt;
use std::ops::RangeInclusive;

/// The key of an API.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiKey(pub i16);

/// What is known of an API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiInfo {
    /// Its key.
    pub key: ApiKey,
    /// Its name.
    pub name: &'static str,
    /// Versions that this crate reads and writes.
    pub versions: RangeInclusive<i16>,
    /// The first version with compact lengths and tagged fields.
    pub first_flexible: Option<i16>,
    /// Whether Kafka serves it on a broker's listener (else only on a controller's).
    pub on_broker: bool,
}

macro_rules! flexible {
    (none) => {
        None
    };
    ($first:literal) => {
        Some($first)
    };
}

macro_rules! on_broker {
    (broker) => {
        true
    };
    (controller) => {
        false
    };
}

macro_rules! apis {
    ($($key:literal $name:ident $text:literal $first:literal-$last:literal $flexible:tt $listener:tt,)*) => {
        #[allow(missing_docs)]
        impl ApiKey {
            $(pub const $name: Self = Self($key);)*
        }

        /// Every API, by rising key.
        pub static APIS: &[ApiInfo] = &[$(ApiInfo {
            key: ApiKey::$name,
            name: $text,
            versions: $first..=$last,
            first_flexible: flexible!($flexible),
            on_broker: on_broker!($listener),
        },)*];
    };
}

impl ApiKey {
    /// What is known of it, if anything.
    pub fn info(self) -> Option<&'static ApiInfo> {
        let at = APIS.binary_search_by_key(&self, |info| info.key).ok()?;
        APIS.get(at)
    }

    /// Its name, or `Unknown`.
    pub fn name(self) -> &'static str {
        self.info().map_or("Unknown", |info| info.name)
    }

    /// Whether `version` has compact lengths and tagged fields.
    pub fn is_flexible(self, version: i16) -> bool {
        self.info().and_then(|info| info.first_flexible).is_some_and(|first| version >= first)
    }

    /// 2 (with tagged fields) or 1.
    pub fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// 1 (with tagged fields) or 0. ApiVersions answers with 0 always: a client that knows nothing yet must be able to
    /// read it (KIP-511).
    pub fn response_header_version(self, version: i16) -> i16 {
        i16::from(self != Self::API_VERSIONS && self.is_flexible(version))
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

apis! {
    0 PRODUCE "Produce" 0-13 9 broker,
    1 FETCH "Fetch" 0-18 12 broker,
    2 LIST_OFFSETS "ListOffsets" 0-11 6 broker,
    3 METADATA "Metadata" 0-13 9 broker,
    8 OFFSET_COMMIT "OffsetCommit" 0-10 8 broker,
    9 OFFSET_FETCH "OffsetFetch" 0-10 6 broker,
    10 FIND_COORDINATOR "FindCoordinator" 0-6 3 broker,
    11 JOIN_GROUP "JoinGroup" 0-9 6 broker,
    12 HEARTBEAT "Heartbeat" 0-4 4 broker,
    13 LEAVE_GROUP "LeaveGroup" 0-5 4 broker,
    14 SYNC_GROUP "SyncGroup" 0-5 4 broker,
    15 DESCRIBE_GROUPS "DescribeGroups" 0-6 5 broker,
    16 LIST_GROUPS "ListGroups" 0-5 3 broker,
    17 SASL_HANDSHAKE "SaslHandshake" 0-1 none broker,
    18 API_VERSIONS "ApiVersions" 0-5 3 broker,
    19 CREATE_TOPICS "CreateTopics" 0-7 5 broker,
    20 DELETE_TOPICS "DeleteTopics" 0-6 4 broker,
    21 DELETE_RECORDS "DeleteRecords" 0-2 2 broker,
    22 INIT_PRODUCER_ID "InitProducerId" 0-6 2 broker,
    23 OFFSET_FOR_LEADER_EPOCH "OffsetForLeaderEpoch" 0-4 4 broker,
    24 ADD_PARTITIONS_TO_TXN "AddPartitionsToTxn" 0-5 3 broker,
    25 ADD_OFFSETS_TO_TXN "AddOffsetsToTxn" 0-4 3 broker,
    26 END_TXN "EndTxn" 0-5 3 broker,
    27 WRITE_TXN_MARKERS "WriteTxnMarkers" 0-2 1 broker,
    28 TXN_OFFSET_COMMIT "TxnOffsetCommit" 0-6 3 broker,
    29 DESCRIBE_ACLS "DescribeAcls" 0-3 2 broker,
    30 CREATE_ACLS "CreateAcls" 0-3 2 broker,
    31 DELETE_ACLS "DeleteAcls" 0-3 2 broker,
    32 DESCRIBE_CONFIGS "DescribeConfigs" 0-4 4 broker,
    33 ALTER_CONFIGS "AlterConfigs" 0-2 2 broker,
    34 ALTER_REPLICA_LOG_DIRS "AlterReplicaLogDirs" 0-2 2 broker,
    35 DESCRIBE_LOG_DIRS "DescribeLogDirs" 0-5 2 broker,
    36 SASL_AUTHENTICATE "SaslAuthenticate" 0-2 2 broker,
    37 CREATE_PARTITIONS "CreatePartitions" 0-3 2 broker,
    38 CREATE_DELEGATION_TOKEN "CreateDelegationToken" 0-3 2 broker,
    39 RENEW_DELEGATION_TOKEN "RenewDelegationToken" 0-2 2 broker,
    40 EXPIRE_DELEGATION_TOKEN "ExpireDelegationToken" 0-2 2 broker,
    41 DESCRIBE_DELEGATION_TOKEN "DescribeDelegationToken" 0-3 2 broker,
    42 DELETE_GROUPS "DeleteGroups" 0-3 2 broker,
    43 ELECT_LEADERS "ElectLeaders" 0-2 2 broker,
    44 INCREMENTAL_ALTER_CONFIGS "IncrementalAlterConfigs" 0-1 1 broker,
    45 ALTER_PARTITION_REASSIGNMENTS "AlterPartitionReassignments" 0-1 0 broker,
    46 LIST_PARTITION_REASSIGNMENTS "ListPartitionReassignments" 0-0 0 broker,
    47 OFFSET_DELETE "OffsetDelete" 0-0 none broker,
    48 DESCRIBE_CLIENT_QUOTAS "DescribeClientQuotas" 0-1 1 broker,
    49 ALTER_CLIENT_QUOTAS "AlterClientQuotas" 0-1 1 broker,
    50 DESCRIBE_USER_SCRAM_CREDENTIALS "DescribeUserScramCredentials" 0-0 0 broker,
    51 ALTER_USER_SCRAM_CREDENTIALS "AlterUserScramCredentials" 0-0 0 broker,
    52 VOTE "Vote" 0-2 0 controller,
    53 BEGIN_QUORUM_EPOCH "BeginQuorumEpoch" 0-1 1 controller,
    54 END_QUORUM_EPOCH "EndQuorumEpoch" 0-1 1 controller,
    55 DESCRIBE_QUORUM "DescribeQuorum" 0-2 0 broker,
    56 ALTER_PARTITION "AlterPartition" 2-3 0 controller,
    57 UPDATE_FEATURES "UpdateFeatures" 0-2 0 broker,
    58 ENVELOPE "Envelope" 0-0 0 controller,
    59 FETCH_SNAPSHOT "FetchSnapshot" 0-1 0 controller,
    60 DESCRIBE_CLUSTER "DescribeCluster" 0-2 0 broker,
    61 DESCRIBE_PRODUCERS "DescribeProducers" 0-0 0 broker,
    62 BROKER_REGISTRATION "BrokerRegistration" 0-4 0 controller,
    63 BROKER_HEARTBEAT "BrokerHeartbeat" 0-2 0 controller,
    64 UNREGISTER_BROKER "UnregisterBroker" 0-0 0 broker,
    65 DESCRIBE_TRANSACTIONS "DescribeTransactions" 0-0 0 broker,
    66 LIST_TRANSACTIONS "ListTransactions" 0-2 0 broker,
    67 ALLOCATE_PRODUCER_IDS "AllocateProducerIds" 0-0 0 controller,
    68 CONSUMER_GROUP_HEARTBEAT "ConsumerGroupHeartbeat" 0-1 0 broker,
    69 CONSUMER_GROUP_DESCRIBE "ConsumerGroupDescribe" 0-1 0 broker,
    70 CONTROLLER_REGISTRATION "ControllerRegistration" 0-0 0 controller,
    71 GET_TELEMETRY_SUBSCRIPTIONS "GetTelemetrySubscriptions" 0-0 0 broker,
    72 PUSH_TELEMETRY "PushTelemetry" 0-0 0 broker,
    73 ASSIGN_REPLICAS_TO_DIRS "AssignReplicasToDirs" 0-0 0 controller,
    74 LIST_CONFIG_RESOURCES "ListConfigResources" 0-1 0 broker,
    75 DESCRIBE_TOPIC_PARTITIONS "DescribeTopicPartitions" 0-0 0 broker,
    76 SHARE_GROUP_HEARTBEAT "ShareGroupHeartbeat" 1-1 0 broker,
    77 SHARE_GROUP_DESCRIBE "ShareGroupDescribe" 1-1 0 broker,
    78 SHARE_FETCH "ShareFetch" 1-2 0 broker,
    79 SHARE_ACKNOWLEDGE "ShareAcknowledge" 1-2 0 broker,
    80 ADD_RAFT_VOTER "AddRaftVoter" 0-1 0 broker,
    81 REMOVE_RAFT_VOTER "RemoveRaftVoter" 0-0 0 broker,
    82 UPDATE_RAFT_VOTER "UpdateRaftVoter" 0-0 0 controller,
    83 INITIALIZE_SHARE_GROUP_STATE "InitializeShareGroupState" 0-0 0 broker,
    84 READ_SHARE_GROUP_STATE "ReadShareGroupState" 0-0 0 broker,
    85 WRITE_SHARE_GROUP_STATE "WriteShareGroupState" 0-1 0 broker,
    86 DELETE_SHARE_GROUP_STATE "DeleteShareGroupState" 0-0 0 broker,
    87 READ_SHARE_GROUP_STATE_SUMMARY "ReadShareGroupStateSummary" 0-1 0 broker,
    88 STREAMS_GROUP_HEARTBEAT "StreamsGroupHeartbeat" 0-1 0 broker,
    89 STREAMS_GROUP_DESCRIBE "StreamsGroupDescribe" 0-1 0 broker,
    90 DESCRIBE_SHARE_GROUP_OFFSETS "DescribeShareGroupOffsets" 0-1 0 broker,
    91 ALTER_SHARE_GROUP_OFFSETS "AlterShareGroupOffsets" 0-0 0 broker,
    92 DELETE_SHARE_GROUP_OFFSETS "DeleteShareGroupOffsets" 0-0 0 broker,
    93 STREAMS_GROUP_TOPOLOGY_DESCRIPTION_UPDATE "StreamsGroupTopologyDescriptionUpdate" 0-0 0 broker,
    94 UNREGISTER_CONTROLLER "UnregisterController" 0-0 0 broker,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_rise() {
        assert!(APIS.windows(2).all(|pair| pair[0].key < pair[1].key));
    }

    #[test]
    fn headers() {
        assert_eq!(ApiKey::API_VERSIONS.request_header_version(3), 2);
        assert_eq!(ApiKey::API_VERSIONS.response_header_version(3), 0);
        assert_eq!(ApiKey::FETCH.response_header_version(11), 0);
        assert_eq!(ApiKey::FETCH.response_header_version(12), 1);
        assert_eq!(ApiKey::OFFSET_DELETE.request_header_version(0), 1);
        assert_eq!(ApiKey(-7).name(), "Unknown");
    }
}
