//! SaslHandshake (17, KIP-43) and SaslAuthenticate (36, KIP-152): on a listener without SASL both are refused with
//! ILLEGAL_SASL_STATE, as Kafka does. Clients check for these keys to see how old a broker is.

use std::ops::RangeInclusive;

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::sasl_authenticate::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use esker_protocol::messages::sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse};

use super::handler::{Handler, RequestContext, Staged};

/// The SaslHandshake API.
pub struct SaslHandshake;

impl Handler for SaslHandshake {
    type Request = SaslHandshakeRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=1;

    fn handle(ctx: RequestContext, _: SaslHandshakeRequest) -> Staged<SaslHandshakeResponse> {
        ctx.broker.metrics.network.record_failed_authentication(&ctx.connection.listener);
        Staged::Ready(SaslHandshakeResponse { error_code: ErrorCode::ILLEGAL_SASL_STATE, mechanisms: Vec::new() })
    }
}

/// The SaslAuthenticate API.
pub struct SaslAuthenticate;

impl Handler for SaslAuthenticate {
    type Request = SaslAuthenticateRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    fn handle(ctx: RequestContext, _: SaslAuthenticateRequest) -> Staged<SaslAuthenticateResponse> {
        ctx.broker.metrics.network.record_failed_authentication(&ctx.connection.listener);
        Staged::Ready(SaslAuthenticateResponse {
            error_code: ErrorCode::ILLEGAL_SASL_STATE,
            error_message: Some("SaslAuthenticate is not expected here: this listener does not use SASL.".into()),
            ..SaslAuthenticateResponse::default()
        })
    }
}
