//! DescribeClientQuotas (48): lists client quotas by filter (KIP-546).

#![allow(missing_docs)]

use esker_protocol_derive::Message;

use crate::error::ErrorCode;
use crate::primitives::Str;

/// The request of DescribeClientQuotas (API key 48).
#[derive(Debug, Clone, PartialEq, Message)]
#[message(api = 48, kind = "request", versions = "0-1", flexible = "1+", response = DescribeClientQuotasResponse)]
pub struct DescribeClientQuotasRequest {
    pub components: Vec<ComponentData>,
    pub strict: bool,
}

/// One element of `components` in [`DescribeClientQuotasRequest`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ComponentData {
    pub entity_type: Str,
    pub match_type: i8,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub r#match: Option<Str>,
}

/// The answer of DescribeClientQuotas.
#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0-1", flexible = "1+")]
pub struct DescribeClientQuotasResponse {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub error_message: Option<Str>,
    #[field(nullable = "0+", default = Some(Vec::new()))]
    pub entries: Option<Vec<EntryData>>,
}

/// One element of `entries` in [`DescribeClientQuotasResponse`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct EntryData {
    pub entity: Vec<EntityData>,
    pub values: Vec<ValueData>,
}

/// One element of `entity` in [`EntryData`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct EntityData {
    pub entity_type: Str,
    #[field(nullable = "0+", default = Some(Str::default()))]
    pub entity_name: Option<Str>,
}

/// One element of `values` in [`EntryData`].
#[derive(Debug, Clone, PartialEq, Message)]
pub struct ValueData {
    pub key: Str,
    pub value: f64,
}
