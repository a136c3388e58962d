//! Heartbeat (12): keeps a member of a classic group alive, and reports a rebalance of the group. v3 added static members
//! (KIP-345).

use std::ops::RangeInclusive;

use esker_core::group::Identity;
use esker_protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};

use super::handler::{Handler, RequestContext, Staged};

/// The Heartbeat API.
pub struct Heartbeat;

impl Handler for Heartbeat {
    type Request = HeartbeatRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=4;

    fn handle(ctx: RequestContext, request: HeartbeatRequest) -> Staged<HeartbeatResponse> {
        let identity = Identity {
            member_id: request.member_id,
            instance_id: request.group_instance_id,
            generation: request.generation_id,
        };
        let image = ctx.broker.metadata.image();
        let error_code = ctx.broker.groups.heartbeat(&image, &request.group_id, &identity);
        Staged::Ready(HeartbeatResponse { error_code, ..HeartbeatResponse::default() })
    }
}
