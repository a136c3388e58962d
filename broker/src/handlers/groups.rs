//! DescribeGroups (15), ListGroups (16) and DeleteGroups (42): groups as admins see them.
//!
//! DescribeGroups v3 returns authorized operations, v6 returns why a group is unknown where older versions call it "Dead"
//! (KIP-1043). ListGroups v4 filters by state (KIP-518), v5 by type (KIP-848). DeleteGroups (KIP-229) takes empty groups.

use std::ops::RangeInclusive;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse};
use esker_protocol::messages::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use esker_protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
use esker_protocol::primitives::Str;

use super::handler::{Handler, RequestContext, Staged};
use super::operations;

/// The DescribeGroups API.
pub struct DescribeGroups;
/// The ListGroups API.
pub struct ListGroups;
/// The DeleteGroups API.
pub struct DeleteGroups;

impl Handler for DescribeGroups {
    type Request = DescribeGroupsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=6;

    fn handle(ctx: RequestContext, request: DescribeGroupsRequest) -> Staged<DescribeGroupsResponse> {
        let with_operations = request.include_authorized_operations;
        let groups = request.groups.into_iter().map(|id| {
            let mut group = describe(&ctx, id);
            if with_operations && !group.error_code.is_error() {
                group.authorized_operations = operations::GROUP;
            }
            group
        });
        Staged::Ready(DescribeGroupsResponse { groups: groups.collect(), ..DescribeGroupsResponse::default() })
    }
}

fn describe(ctx: &RequestContext, group_id: Str) -> DescribedGroup {
    let image = ctx.broker.metadata.image();
    let group = DescribedGroup { group_id, ..DescribedGroup::default() };
    match ctx.broker.groups.describe(&image, &group.group_id) {
        Err(error_code) => DescribedGroup { error_code, ..group },
        Ok(None) if ctx.api_version >= 6 => DescribedGroup {
            error_code: ErrorCode::GROUP_ID_NOT_FOUND,
            error_message: Some(Str::from(match ctx.broker.groups.describe_consumer(&image, &group.group_id) {
                Ok(Some(_)) => format!("Group {} is not a classic group.", group.group_id),
                _ => format!("Group {} not found.", group.group_id),
            })),
            group_state: "Dead".into(),
            ..group
        },
        Ok(None) => DescribedGroup { group_state: "Dead".into(), ..group },
        Ok(Some(described)) => DescribedGroup {
            group_state: described.state.into(),
            protocol_type: described.protocol_type,
            protocol_data: described.protocol,
            members: described
                .members
                .into_iter()
                .map(|m| DescribedGroupMember {
                    member_id: m.member_id,
                    group_instance_id: m.instance_id,
                    client_id: m.client_id,
                    client_host: m.client_host,
                    member_metadata: m.metadata,
                    member_assignment: m.assignment,
                })
                .collect(),
            ..group
        },
    }
}

impl Handler for ListGroups {
    type Request = ListGroupsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    fn handle(ctx: RequestContext, request: ListGroupsRequest) -> Staged<ListGroupsResponse> {
        let passes = |filter: &[Str], value: &str| {
            filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(value))
        };
        let (groups, loading) = ctx.broker.groups.list();
        let shown = groups
            .into_iter()
            .filter(|g| passes(&request.states_filter, g.state) && passes(&request.types_filter, g.kind));
        Staged::Ready(ListGroupsResponse {
            error_code: if loading { ErrorCode::COORDINATOR_LOAD_IN_PROGRESS } else { ErrorCode::NONE },
            groups: shown
                .map(|g| ListedGroup {
                    group_id: g.group,
                    protocol_type: g.protocol_type,
                    group_state: g.state.into(),
                    group_type: g.kind.into(),
                })
                .collect(),
            ..ListGroupsResponse::default()
        })
    }
}

impl Handler for DeleteGroups {
    type Request = DeleteGroupsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=3;

    fn handle(ctx: RequestContext, request: DeleteGroupsRequest) -> Staged<DeleteGroupsResponse> {
        Staged::start(async move {
            let image = ctx.broker.metadata.image();
            let mut results = Vec::new();
            for group_id in request.groups_names {
                let error_code =
                    ctx.broker.groups.delete_group(&image, &group_id).await.err().unwrap_or(ErrorCode::NONE);
                results.push(DeletableGroupResult { group_id, error_code, error_message: None });
            }
            DeleteGroupsResponse { results, ..DeleteGroupsResponse::default() }
        })
    }
}
