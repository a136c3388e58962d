//! ApiVersions (18): what a broker can do; the first request of every client. v3 names the client's software (KIP-511), v5 the cluster and
//! node that it means to reach (KIP-1242). The answer's header never has tagged fields, whatever its version.

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of ApiVersions (API key 18).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 18, kind = "request", versions = "0-5", flexible = "3+", response = ApiVersionsResponse)]
pub struct ApiVersionsRequest {
    #[field(versions = "3+", ignorable)]
    pub client_software_name: Str,
    #[field(versions = "3+", ignorable)]
    pub client_software_version: Str,
    #[field(versions = "5+", nullable = "5+", ignorable)]
    pub cluster_id: Option<Str>,
    #[field(versions = "5+", default = -1, ignorable)]
    pub node_id: i32,
}

/// The answer of ApiVersions.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-5", flexible = "3+")]
pub struct ApiVersionsResponse {
    pub error_code: ErrorCode,
    pub api_keys: Vec<ApiVersion>,
    #[field(versions = "1+", ignorable)]
    pub throttle_time_ms: i32,
    #[field(versions = "3+", tag = 0, tagged = "3+", ignorable)]
    pub supported_features: Vec<SupportedFeatureKey>,
    #[field(versions = "3+", tag = 1, tagged = "3+", default = -1, ignorable)]
    pub finalized_features_epoch: i64,
    #[field(versions = "3+", tag = 2, tagged = "3+", ignorable)]
    pub finalized_features: Vec<FinalizedFeatureKey>,
    #[field(versions = "3+", tag = 3, tagged = "3+", ignorable)]
    pub zk_migration_ready: bool,
}

/// One element of `api_keys` in [`ApiVersionsResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ApiVersion {
    pub api_key: i16,
    pub min_version: i16,
    pub max_version: i16,
}

/// One element of `supported_features` in [`ApiVersionsResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct SupportedFeatureKey {
    #[field(versions = "3+")]
    pub name: Str,
    #[field(versions = "3+")]
    pub min_version: i16,
    #[field(versions = "3+")]
    pub max_version: i16,
}

/// One element of `finalized_features` in [`ApiVersionsResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct FinalizedFeatureKey {
    #[field(versions = "3+")]
    pub name: Str,
    #[field(versions = "3+")]
    pub max_version_level: i16,
    #[field(versions = "3+")]
    pub min_version_level: i16,
}
