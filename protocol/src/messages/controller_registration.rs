//! ControllerRegistration (70): a controller joins the cluster (KIP-919).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::{Str, Uuid};

/// The request of ControllerRegistration (API key 70).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 70, kind = "request", versions = "0-0", flexible = "0+", response = ControllerRegistrationResponse)]
pub struct ControllerRegistrationRequest {
    pub controller_id: i32,
    pub incarnation_id: Uuid,
    pub zk_migration_ready: bool,
    pub listeners: Vec<Listener>,
    pub features: Vec<Feature>,
}

/// One element of `listeners` in [`ControllerRegistrationRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Listener {
    pub name: Str,
    pub host: Str,
    pub port: u16,
    pub security_protocol: i16,
}

/// One element of `features` in [`ControllerRegistrationRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct Feature {
    pub name: Str,
    pub min_supported_version: i16,
    pub max_supported_version: i16,
}

/// The answer of ControllerRegistration.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-0", flexible = "0+")]
pub struct ControllerRegistrationResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub error_message: Option<Str>,
}
