//! DeleteAcls (31): removes ACLs by filter (KIP-140).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of DeleteAcls (API key 31).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 31, kind = "request", versions = "0-3", flexible = "2+", response = DeleteAclsResponse)]
pub struct DeleteAclsRequest {
    pub filters: Vec<DeleteAclsFilter>,
}

/// One element of `filters` in [`DeleteAclsRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DeleteAclsFilter {
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

/// The answer of DeleteAcls.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-3", flexible = "2+")]
pub struct DeleteAclsResponse {
    pub throttle_time_ms: i32,
    pub filter_results: Vec<DeleteAclsFilterResult>,
}

/// One element of `filter_results` in [`DeleteAclsResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DeleteAclsFilterResult {
    pub error_code: ErrorCode,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub error_message: Option<Str>,
    pub matching_acls: Vec<DeleteAclsMatchingAcl>,
}

/// One element of `matching_acls` in [`DeleteAclsFilterResult`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DeleteAclsMatchingAcl {
    pub error_code: ErrorCode,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub error_message: Option<Str>,
    pub resource_type: i8,
    pub resource_name: Str,
    #[field(versions = "1+", default = 3)]
    pub pattern_type: i8,
    pub principal: Str,
    pub host: Str,
    pub operation: i8,
    pub permission_type: i8,
}
