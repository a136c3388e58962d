//! JoinGroup (11): a member joins a classic group. v1 added the rebalance time-out, v4 the member id that is issued first
//! (KIP-394), v5 static members (KIP-345), v9 an assignment that may be skipped (KIP-814). The answer comes when the group's
//! members are together.

use std::ops::RangeInclusive;

use esker_core::group::{JoinRequest, Protocol};
use esker_protocol::messages::join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};
use esker_protocol::primitives::Str;

use super::handler::{Handler, RequestContext, Staged};

/// The JoinGroup API.
pub struct JoinGroup;

impl Handler for JoinGroup {
    type Request = JoinGroupRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=9;

    fn handle(ctx: RequestContext, request: JoinGroupRequest) -> Staged<JoinGroupResponse> {
        let version = ctx.api_version;
        // What a group keeps must not keep the request's frame.
        let protocols = request
            .protocols
            .iter()
            .map(|p| Protocol { name: p.name.detached(), metadata: bytes::Bytes::copy_from_slice(&p.metadata) });
        let join = JoinRequest {
            group: request.group_id.detached(),
            member_id: request.member_id.detached(),
            instance_id: request.group_instance_id.as_ref().map(Str::detached),
            client_id: ctx.client_id.as_ref().map(Str::detached).unwrap_or_default(),
            client_host: Str::from(format!("/{}", ctx.connection.peer.ip())),
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: if version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms },
            protocol_type: request.protocol_type.detached(),
            protocols: protocols.collect(),
            require_known_member_id: version >= 4,
            can_skip_assignment: version >= 9,
            fresh: Str::from(ctx.broker.node.random_text()),
        };
        Staged::start(async move {
            let image = ctx.broker.metadata.image();
            let reply = ctx.broker.groups.join(&image, join).await;
            let members = reply.members.into_iter().map(|(member_id, group_instance_id, metadata)| {
                JoinGroupResponseMember { member_id, group_instance_id, metadata }
            });
            JoinGroupResponse {
                error_code: reply.error,
                generation_id: reply.generation,
                protocol_type: reply.protocol_type,
                // Null came with v7.
                protocol_name: if version >= 7 { reply.protocol } else { Some(reply.protocol.unwrap_or_default()) },
                leader: reply.leader,
                skip_assignment: reply.skip_assignment,
                member_id: reply.member_id,
                members: members.collect(),
                ..JoinGroupResponse::default()
            }
        })
    }
}
