//! LeaveGroup (13): members leave, or are made to by an admin. v0-2 name one member, v3+ several, also by instance id (KIP-345).

use std::ops::RangeInclusive;

use esker_core::group::Leaving;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity, MemberResponse};

use super::handler::{Handler, RequestContext, Staged};

/// The LeaveGroup API.
pub struct LeaveGroup;

impl Handler for LeaveGroup {
    type Request = LeaveGroupRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    fn handle(ctx: RequestContext, request: LeaveGroupRequest) -> Staged<LeaveGroupResponse> {
        let many = ctx.api_version >= 3;
        let members: Vec<_> = if many {
            let leaving = |m: MemberIdentity| Leaving {
                member_id: m.member_id,
                instance_id: m.group_instance_id,
                client_reason: m.reason,
            };
            request.members.into_iter().map(leaving).collect()
        } else {
            vec![Leaving { member_id: request.member_id, ..Leaving::default() }]
        };
        Staged::start(async move {
            let image = ctx.broker.metadata.image();
            let mut response = LeaveGroupResponse::default();
            match ctx.broker.groups.leave(&image, &request.group_id, &members).await {
                Err(error) => response.error_code = error,
                Ok(replies) if many => {
                    response.members = replies
                        .into_iter()
                        .map(|r| MemberResponse {
                            member_id: r.member_id,
                            group_instance_id: r.instance_id,
                            error_code: r.error,
                        })
                        .collect();
                }
                Ok(replies) => response.error_code = replies.first().map_or(ErrorCode::NONE, |r| r.error),
            }
            response
        })
    }
}
