//! AddRaftVoter (80) and RemoveRaftVoter (81, KIP-853): the voters of the metadata quorum change on command, one at a time. Any broker takes
//! them, and the active controller decides.
//!
//! A node that becomes a voter is a member already, with the address that it joined with: the listeners in the request are not looked at.
//! v1 of AddRaftVoter may be answered before the change is committed (KIP-1186); here the answer always comes after. UpdateRaftVoter (82) is served
//! by Kafka's controllers alone, to voters.

use std::ops::RangeInclusive;
use std::time::Duration;

use esker_core::controller::MemberKey;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::add_raft_voter::{AddRaftVoterRequest, AddRaftVoterResponse};
use esker_protocol::messages::remove_raft_voter::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};
use esker_protocol::primitives::Str;
use futures_util::FutureExt;
use tokio::time::Instant;

use super::handler::{Handler, RequestContext, Staged};
use super::timeout::{DEFAULT_TIMEOUT, request_timeout};
use crate::cluster::VoterChange;
use crate::error::KafkaError;

/// The AddRaftVoter API.
pub struct AddRaftVoter;
/// The RemoveRaftVoter API.
pub struct RemoveRaftVoter;

impl Handler for AddRaftVoter {
    type Request = AddRaftVoterRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    fn handle(ctx: RequestContext, request: AddRaftVoterRequest) -> Staged<AddRaftVoterResponse> {
        let key = MemberKey { node_id: request.voter_id, directory: request.voter_directory_id };
        let timeout = request_timeout(request.timeout_ms);
        Staged::Later(
            async move {
                let (error_code, error_message) =
                    change(&ctx, request.cluster_id, VoterChange::Add(key), timeout).await;
                AddRaftVoterResponse { error_code, error_message, ..AddRaftVoterResponse::default() }
            }
            .boxed(),
        )
    }
}

impl Handler for RemoveRaftVoter {
    type Request = RemoveRaftVoterRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn handle(ctx: RequestContext, request: RemoveRaftVoterRequest) -> Staged<RemoveRaftVoterResponse> {
        let key = MemberKey { node_id: request.voter_id, directory: request.voter_directory_id };
        Staged::Later(
            async move {
                let (error_code, error_message) =
                    change(&ctx, request.cluster_id, VoterChange::Remove(key), REMOVE_TIMEOUT).await;
                RemoveRaftVoterResponse { error_code, error_message, ..RemoveRaftVoterResponse::default() }
            }
            .boxed(),
        )
    }
}

/// RemoveRaftVoter has no time-out of its own. A client that waits for [`DEFAULT_TIMEOUT`] still gets the answer.
const REMOVE_TIMEOUT: Duration = DEFAULT_TIMEOUT.saturating_sub(Duration::from_secs(5));

async fn change(
    ctx: &RequestContext,
    cluster_id: Option<Str>,
    change: VoterChange,
    timeout: Duration,
) -> (ErrorCode, Option<Str>) {
    let own = &ctx.broker.cluster_id;
    if let Some(cluster_id) = cluster_id.filter(|cluster_id| cluster_id != own) {
        let message = format!("The given id \"{cluster_id}\" doesn't match the cluster id \"{own}\"");
        return (ErrorCode::INCONSISTENT_CLUSTER_ID, Some(message.into()));
    }
    match ctx.broker.quorum.change_voter(change, Instant::now() + timeout).await {
        Ok(()) => (ErrorCode::NONE, None),
        Err(error) => (error.code(), Some(error.to_string().into())),
    }
}
