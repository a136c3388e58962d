//! DescribeAcls (29), CreateAcls (30) and DeleteAcls (31), all KIP-140; v1 prefixed patterns (KIP-290), v3 user resources (KIP-373).
//! Without an authorizer each is answered with SECURITY_DISABLED, as Kafka does.

use std::ops::RangeInclusive;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::create_acls::{AclCreationResult, CreateAclsRequest, CreateAclsResponse};
use esker_protocol::messages::delete_acls::{DeleteAclsFilterResult, DeleteAclsRequest, DeleteAclsResponse};
use esker_protocol::messages::describe_acls::{DescribeAclsRequest, DescribeAclsResponse};
use esker_protocol::primitives::Str;

use super::handler::{Handler, RequestContext, Staged};

/// The code and the reason of every refusal.
fn disabled() -> (ErrorCode, Option<Str>) {
    (ErrorCode::SECURITY_DISABLED, Some("No Authorizer is configured on the broker.".into()))
}

/// The DescribeAcls API.
pub struct DescribeAcls;

impl Handler for DescribeAcls {
    type Request = DescribeAclsRequest;
    const VERSIONS: RangeInclusive<i16> = 1..=3;

    fn handle(_: RequestContext, _: DescribeAclsRequest) -> Staged<DescribeAclsResponse> {
        let (error_code, error_message) = disabled();
        Staged::Ready(DescribeAclsResponse { error_code, error_message, ..DescribeAclsResponse::default() })
    }
}

/// The CreateAcls API.
pub struct CreateAcls;

impl Handler for CreateAcls {
    type Request = CreateAclsRequest;
    const VERSIONS: RangeInclusive<i16> = 1..=3;

    fn handle(_: RequestContext, request: CreateAclsRequest) -> Staged<CreateAclsResponse> {
        let refused = |_| {
            let (error_code, error_message) = disabled();
            AclCreationResult { error_code, error_message }
        };
        let results = request.creations.iter().map(refused).collect();
        Staged::Ready(CreateAclsResponse { results, ..CreateAclsResponse::default() })
    }
}

/// The DeleteAcls API.
pub struct DeleteAcls;

impl Handler for DeleteAcls {
    type Request = DeleteAclsRequest;
    const VERSIONS: RangeInclusive<i16> = 1..=3;

    fn handle(_: RequestContext, request: DeleteAclsRequest) -> Staged<DeleteAclsResponse> {
        let refused = |_| {
            let (error_code, error_message) = disabled();
            DeleteAclsFilterResult { error_code, error_message, matching_acls: Vec::new() }
        };
        let filter_results = request.filters.iter().map(refused).collect();
        Staged::Ready(DeleteAclsResponse { filter_results, ..DeleteAclsResponse::default() })
    }
}
