//! DescribeConfigs (32): configs of topics, brokers, groups, with sources and synonyms (KIP-133, KIP-226).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of DescribeConfigs (API key 32).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 32, kind = "request", versions = "0-4", flexible = "4+", response = DescribeConfigsResponse)]
pub struct DescribeConfigsRequest {
    pub resources: Vec<DescribeConfigsResource>,
    #[field(versions = "1+")]
    pub include_synonyms: bool,
    #[field(versions = "3+")]
    pub include_documentation: bool,
}

/// One element of `resources` in [`DescribeConfigsRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribeConfigsResource {
    pub resource_type: i8,
    pub resource_name: Str,
    #[field(nullable = "0+", default = Some(Vec::new()))]
    pub configuration_keys: Option<Vec<Str>>,
}

/// The answer of DescribeConfigs.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-4", flexible = "4+")]
pub struct DescribeConfigsResponse {
    pub throttle_time_ms: i32,
    pub results: Vec<DescribeConfigsResult>,
}

/// One element of `results` in [`DescribeConfigsResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribeConfigsResult {
    pub error_code: ErrorCode,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub error_message: Option<Str>,
    pub resource_type: i8,
    pub resource_name: Str,
    pub configs: Vec<DescribeConfigsResourceResult>,
}

/// One element of `configs` in [`DescribeConfigsResult`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribeConfigsResourceResult {
    pub name: Str,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub value: Option<Str>,
    pub read_only: bool,
    #[field(versions = "0")]
    pub is_default: bool,
    #[field(versions = "1+", default = -1, ignorable)]
    pub config_source: i8,
    pub is_sensitive: bool,
    #[field(versions = "1+", ignorable)]
    pub synonyms: Vec<DescribeConfigsSynonym>,
    #[field(versions = "3+", ignorable)]
    pub config_type: i8,
    #[field(versions = "3+", nullable = "3+", default = Some(Str::default()), ignorable)]
    pub documentation: Option<Str>,
}

/// One element of `synonyms` in [`DescribeConfigsResourceResult`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct DescribeConfigsSynonym {
    #[field(versions = "1+")]
    pub name: Str,
    #[field(versions = "1+", nullable = "1+", default = Some(Str::default()))]
    pub value: Option<Str>,
    #[field(versions = "1+")]
    pub source: i8,
}
