//! Whether a node may be stopped, as JSON.

use esker_core::health::{AffectedPartition, StopAssessment};
use serde::Serialize;
use utoipa::ToSchema;

/// Whether a node may be stopped, and what would be lost.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StopReport {
    /// The node.
    pub node_id: i32,
    /// Whether nothing would be lost.
    pub safe: bool,
    /// Partitions that the stop harms.
    pub partition_count: usize,
    /// The first of them.
    pub partitions: Vec<AffectedReport>,
    /// What the stop does to the metadata quorum.
    pub quorum: QuorumReport,
}

/// A partition that the stop harms.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AffectedReport {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// `last_in_sync_replica`: the partition would be offline. `below_min_isr`: `acks=all` would be refused.
    pub effect: &'static str,
    /// Replicas that are in sync after the stop.
    pub in_sync_after: usize,
    /// `min.insync.replicas`, capped at the number of replicas.
    pub min_insync_replicas: usize,
}

/// What the stop does to the metadata quorum.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct QuorumReport {
    /// Whether the node votes.
    pub is_voter: bool,
    /// All voters.
    pub voters: usize,
    /// Voters that are alive after the stop.
    pub alive_after: usize,
    /// Voters that a majority takes.
    pub majority: usize,
    /// Whether a majority is alive after the stop.
    pub keeps_majority: bool,
}

/// The report of an assessment.
pub fn stop_report(node_id: i32, assessment: &StopAssessment) -> StopReport {
    let partition = |affected: &AffectedPartition| AffectedReport {
        topic: affected.topic.clone(),
        partition: affected.partition,
        effect: affected.effect.name(),
        in_sync_after: affected.in_sync,
        min_insync_replicas: affected.min_isr,
    };
    let quorum = &assessment.quorum;
    StopReport {
        node_id,
        safe: assessment.is_safe(),
        partition_count: assessment.count,
        partitions: assessment.partitions.iter().map(partition).collect(),
        quorum: QuorumReport {
            is_voter: quorum.is_voter,
            voters: quorum.voters,
            alive_after: quorum.alive,
            majority: quorum.majority,
            keeps_majority: quorum.keeps_majority(),
        },
    }
}
