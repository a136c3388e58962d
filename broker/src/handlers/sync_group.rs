//! SyncGroup (14): a member fetches its assignment; the leader sends the assignments of all members. v3 added static members (KIP-345), v5
//! checks of the protocol (KIP-559).

use std::ops::RangeInclusive;

use esker_core::group::{Identity, SyncRequest};
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use esker_protocol::primitives::Str;

use super::handler::{Handler, RequestContext, Staged};

/// The SyncGroup API.
pub struct SyncGroup;

impl Handler for SyncGroup {
    type Request = SyncGroupRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    fn handle(ctx: RequestContext, request: SyncGroupRequest) -> Staged<SyncGroupResponse> {
        // What a group keeps must not keep the request's frame.
        let assignments = request
            .assignments
            .iter()
            .map(|a| (a.member_id.detached(), bytes::Bytes::copy_from_slice(&a.assignment)))
            .collect();
        let sync = SyncRequest {
            group: request.group_id.detached(),
            identity: Identity {
                member_id: request.member_id.detached(),
                instance_id: request.group_instance_id.as_ref().map(Str::detached),
                generation: request.generation_id,
            },
            protocol_type: request.protocol_type,
            protocol: request.protocol_name,
            assignments,
        };
        // Since v5 both must be named (KIP-559).
        if ctx.api_version >= 5 && (sync.protocol_type.is_none() || sync.protocol.is_none()) {
            let error_code = ErrorCode::INCONSISTENT_GROUP_PROTOCOL;
            return Staged::Ready(SyncGroupResponse { error_code, ..SyncGroupResponse::default() });
        }
        Staged::start(async move {
            let image = ctx.broker.metadata.image();
            let reply = ctx.broker.groups.sync(&image, sync).await;
            SyncGroupResponse {
                error_code: reply.error,
                protocol_type: reply.protocol_type,
                protocol_name: reply.protocol,
                assignment: reply.assignment,
                ..SyncGroupResponse::default()
            }
        })
    }
}
