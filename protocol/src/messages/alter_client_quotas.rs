//! AlterClientQuotas (49): sets and removes client quotas (KIP-546).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of AlterClientQuotas (API key 49).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 49, kind = "request", versions = "0-1", flexible = "1+", response = AlterClientQuotasResponse)]
pub struct AlterClientQuotasRequest {
    pub entries: Vec<EntryData>,
    pub validate_only: bool,
}

/// One element of `entries` in [`AlterClientQuotasRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct EntryData {
    pub entity: Vec<EntityData>,
    pub ops: Vec<OpData>,
}

/// One element of `entity` in [`EntryData`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct EntityData {
    pub entity_type: Str,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub entity_name: Option<Str>,
}

/// One element of `ops` in [`EntryData`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct OpData {
    pub key: Str,
    pub value: f64,
    pub remove: bool,
}

/// The answer of AlterClientQuotas.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-1", flexible = "1+")]
pub struct AlterClientQuotasResponse {
    pub throttle_time_ms: i32,
    pub entries: Vec<EntryDataResult>,
}

/// One element of `entries` in [`AlterClientQuotasResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct EntryDataResult {
    pub error_code: ErrorCode,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub error_message: Option<Str>,
    pub entity: Vec<EntityDataResult>,
}

/// One element of `entity` in [`EntryDataResult`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct EntityDataResult {
    pub entity_type: Str,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub entity_name: Option<Str>,
}
