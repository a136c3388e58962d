//! CreateDelegationToken (38), RenewDelegationToken (39), ExpireDelegationToken (40) and DescribeDelegationToken (41), all KIP-48;
//! v3 of the first and the last a token for another owner (KIP-373). Over a connection without authentication each is answered
//! with DELEGATION_TOKEN_REQUEST_NOT_ALLOWED, as Kafka does.

use std::ops::RangeInclusive;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::create_delegation_token::{CreateDelegationTokenRequest, CreateDelegationTokenResponse};
use esker_protocol::messages::describe_delegation_token::{
    DescribeDelegationTokenRequest, DescribeDelegationTokenResponse,
};
use esker_protocol::messages::expire_delegation_token::{ExpireDelegationTokenRequest, ExpireDelegationTokenResponse};
use esker_protocol::messages::renew_delegation_token::{RenewDelegationTokenRequest, RenewDelegationTokenResponse};
use esker_protocol::primitives::Str;

use super::handler::{Handler, RequestContext, Staged};

const REFUSED: ErrorCode = ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED;

/// Kafka's principal of a connection without authentication.
const ANONYMOUS: (&str, &str) = ("User", "ANONYMOUS");

/// The CreateDelegationToken API.
pub struct CreateDelegationToken;

impl Handler for CreateDelegationToken {
    type Request = CreateDelegationTokenRequest;
    const VERSIONS: RangeInclusive<i16> = 1..=3;

    fn handle(ctx: RequestContext, request: CreateDelegationTokenRequest) -> Staged<CreateDelegationTokenResponse> {
        let (requester_type, requester_name) = (Str::from(ANONYMOUS.0), Str::from(ANONYMOUS.1));
        let named = request.owner_principal_name.filter(|name| !name.is_empty());
        let (owner_type, owner_name) = match named {
            Some(name) => (request.owner_principal_type.unwrap_or_default(), name),
            None => (requester_type.clone(), requester_name.clone()),
        };
        let requester = if ctx.api_version >= 3 { (requester_type, requester_name) } else { Default::default() };
        Staged::Ready(CreateDelegationTokenResponse {
            error_code: REFUSED,
            principal_type: owner_type,
            principal_name: owner_name,
            token_requester_principal_type: requester.0,
            token_requester_principal_name: requester.1,
            issue_timestamp_ms: -1,
            expiry_timestamp_ms: -1,
            max_timestamp_ms: -1,
            ..CreateDelegationTokenResponse::default()
        })
    }
}

/// The RenewDelegationToken API.
pub struct RenewDelegationToken;

impl Handler for RenewDelegationToken {
    type Request = RenewDelegationTokenRequest;
    const VERSIONS: RangeInclusive<i16> = 1..=2;

    fn handle(_: RequestContext, _: RenewDelegationTokenRequest) -> Staged<RenewDelegationTokenResponse> {
        let response =
            RenewDelegationTokenResponse { error_code: REFUSED, expiry_timestamp_ms: -1, throttle_time_ms: 0 };
        Staged::Ready(response)
    }
}

/// The ExpireDelegationToken API.
pub struct ExpireDelegationToken;

impl Handler for ExpireDelegationToken {
    type Request = ExpireDelegationTokenRequest;
    const VERSIONS: RangeInclusive<i16> = 1..=2;

    fn handle(_: RequestContext, _: ExpireDelegationTokenRequest) -> Staged<ExpireDelegationTokenResponse> {
        let response =
            ExpireDelegationTokenResponse { error_code: REFUSED, expiry_timestamp_ms: -1, throttle_time_ms: 0 };
        Staged::Ready(response)
    }
}

/// The DescribeDelegationToken API.
pub struct DescribeDelegationToken;

impl Handler for DescribeDelegationToken {
    type Request = DescribeDelegationTokenRequest;
    const VERSIONS: RangeInclusive<i16> = 1..=3;

    fn handle(_: RequestContext, _: DescribeDelegationTokenRequest) -> Staged<DescribeDelegationTokenResponse> {
        Staged::Ready(DescribeDelegationTokenResponse { error_code: REFUSED, ..Default::default() })
    }
}
