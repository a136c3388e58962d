//! UpdateFeatures (57, KIP-584): raises and lowers features; v1 can only validate, v2 has one error for all.

use std::ops::RangeInclusive;

use esker_core::controller;
use esker_protocol::messages::update_features::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use futures_util::FutureExt;

use super::handler::{Handler, RequestContext, Staged};
use super::timeout::request_timeout;
use crate::error::KafkaError;

/// The UpdateFeatures API.
pub struct UpdateFeatures;

impl Handler for UpdateFeatures {
    type Request = UpdateFeaturesRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    fn handle(ctx: RequestContext, request: UpdateFeaturesRequest) -> Staged<UpdateFeaturesResponse> {
        Staged::Later(
            async move {
                let version = ctx.api_version;
                let timeout = request_timeout(request.timeout_ms);
                match ctx.broker.change(timeout, controller::UpdateFeatures { request, version }).await {
                    Ok(reply) => reply,
                    Err(error) => {
                        UpdateFeaturesResponse { error_code: error.code(), ..UpdateFeaturesResponse::default() }
                    }
                }
            }
            .boxed(),
        )
    }
}
