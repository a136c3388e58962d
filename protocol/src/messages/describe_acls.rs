//! DescribeAcls (29): lists ACLs by filter (KIP-140).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of DescribeAcls (API key 29).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 29, kind = "request", versions = "0-3", flexible = "2+", response = DescribeAclsResponse)]
pub struct DescribeAclsRequest {
    pub resource_type_filter: i8,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub resource_name_filter: Option<Str>,
    #[field(versions = "1+", default = 3)]
    pub pattern_type_filter: i8,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub principal_filter: Option<Str>,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub host_filter: Option<Str>,
    pub operation: i8,
    pub permission_type: i8,
}

/// The answer of DescribeAcls.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-3", flexible = "2+")]
pub struct DescribeAclsResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub error_message: Option<Str>,
    pub resources: Vec<DescribeAclsResource>,
}

/// One element of `resources` in [`DescribeAclsResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribeAclsResource {
    pub resource_type: i8,
    pub resource_name: Str,
    #[field(versions = "1+", default = 3)]
    pub pattern_type: i8,
    pub acls: Vec<AclDescription>,
}

/// One element of `acls` in [`DescribeAclsResource`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct AclDescription {
    pub principal: Str,
    pub host: Str,
    pub operation: i8,
    pub permission_type: i8,
}
