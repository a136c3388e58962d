//! Reports as JSON, in one form for HTTP and for the command line.

use esker_core::health::{AffectedPartition, StopAssessment};
use serde_json::{Value, json};

/// Whether a node may be stopped.
pub(crate) fn stop_report(node_id: i32, assessment: &StopAssessment) -> Value {
    let partition = |affected: &AffectedPartition| {
        json!({
            "topic": affected.topic,
            "partition": affected.partition,
            "effect": affected.effect.name(),
            "in_sync_after": affected.in_sync,
            "min_insync_replicas": affected.min_isr,
        })
    };
    let quorum = &assessment.quorum;
    json!({
        "node_id": node_id,
        "safe": assessment.is_safe(),
        "partition_count": assessment.count,
        "partitions": assessment.partitions.iter().map(partition).collect::<Vec<_>>(),
        "quorum": {
            "is_voter": quorum.is_voter,
            "voters": quorum.voters,
            "alive_after": quorum.alive,
            "majority": quorum.majority,
            "keeps_majority": quorum.keeps_majority(),
        },
    })
}
