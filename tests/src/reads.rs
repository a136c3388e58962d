//! What a client reads of a partition of a cluster under test, wherever its leader is by then.

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::fetch::PartitionData;
use esker_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};

use crate::cluster::{ANSWER, Cluster, find};
use crate::wire::{FETCH, Wire, fetch_request, fetched};

/// The version of ListOffsets, and its number for the end.
const LIST_OFFSETS: i16 = 5;
const LATEST: i64 = -1;

impl Cluster {
    /// All records of a partition up to its high watermark, and the high watermark.
    pub fn read_all(&self, topic: &str, partition: i32) -> (Vec<(i64, u64)>, i64) {
        let end = self.high_watermark(topic, partition);
        let mut records: Vec<(i64, u64)> = Vec::new();
        loop {
            let next = records.last().map_or(0, |(offset, _)| offset + 1);
            let data = self.fetch(topic, partition, next, end);
            let before = records.len();
            records.extend(fetched(&data).into_iter().filter(|(offset, _)| *offset >= next));
            if records.len() == before {
                return (records, data.high_watermark);
            }
        }
    }

    /// The high watermark of a partition. A new leader names it when all is below it that was acknowledged before.
    pub fn high_watermark(&self, topic: &str, partition: i32) -> i64 {
        let wanted =
            ListOffsetsPartition { partition_index: partition, timestamp: LATEST, ..ListOffsetsPartition::default() };
        let topics = vec![ListOffsetsTopic { name: topic.to_owned().into(), partitions: vec![wanted] }];
        let request = ListOffsetsRequest { replica_id: -1, topics, ..ListOffsetsRequest::default() };
        find("the leader names the high watermark", || {
            let answer = self.wire_to_leader(topic, partition).ask(LIST_OFFSETS, &request).ok()?;
            let found = answer.topics.into_iter().next()?.partitions.into_iter().next()?;
            is_answered(found.error_code).then_some(found.offset)
        })
    }

    /// What the leader has at `offset`, once its high watermark is not below `end`: a new leader may be behind for a moment.
    fn fetch(&self, topic: &str, partition: i32, offset: i64, end: i64) -> PartitionData {
        let request = fetch_request(topic, partition, offset);
        find("the leader has the records", || {
            let answer = self.wire_to_leader(topic, partition).ask(FETCH, &request).ok()?;
            let data = answer.responses.into_iter().next()?.partitions.into_iter().next()?;
            (is_answered(data.error_code) && data.high_watermark >= end).then_some(data)
        })
    }

    fn wire_to_leader(&self, topic: &str, partition: i32) -> Wire {
        Wire::new(self.address(self.leader(topic, partition)), ANSWER)
    }
}

/// Whether a leader has answered. Another error than one to try again on ends the test.
fn is_answered(code: ErrorCode) -> bool {
    assert!(code == ErrorCode::NONE || code.is_retriable(), "{code}");
    code == ErrorCode::NONE
}
