//! BrokerRegistration (62): a broker joins the cluster (KIP-631).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::{Str, Uuid};

/// The request of BrokerRegistration (API key 62).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 62, kind = "request", versions = "0-4", flexible = "0+", response = BrokerRegistrationResponse)]
pub struct BrokerRegistrationRequest {
    pub broker_id: i32,
    pub cluster_id: Str,
    pub incarnation_id: Uuid,
    pub listeners: Vec<Listener>,
    pub features: Vec<Feature>,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub rack: Option<Str>,
    #[field(versions = "1+")]
    pub is_migrating_zk_broker: bool,
    #[field(versions = "2+", ignorable)]
    pub log_dirs: Vec<Uuid>,
    #[field(versions = "3+", default = -1, ignorable)]
    pub previous_broker_epoch: i64,
}

/// One element of `listeners` in [`BrokerRegistrationRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Listener {
    pub name: Str,
    pub host: Str,
    pub port: u16,
    pub security_protocol: i16,
}

/// One element of `features` in [`BrokerRegistrationRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Feature {
    pub name: Str,
    pub min_supported_version: i16,
    pub max_supported_version: i16,
}

/// The answer of BrokerRegistration.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-4", flexible = "0+")]
pub struct BrokerRegistrationResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[field(default = -1)]
    pub broker_epoch: i64,
}
