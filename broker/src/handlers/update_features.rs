//! UpdateFeatures (57, KIP-584): raises and lowers features; v1 only validates if asked to, v2 has one error for all.

use std::ops::RangeInclusive;

use esker_core::controller;
use esker_protocol::messages::update_features::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use futures_util::FutureExt;

use super::handler::{Handler, RequestContext, Staged};
use super::patience::patience;
use crate::broker::Broker;

/// The UpdateFeatures API.
pub struct UpdateFeatures;

impl Handler for UpdateFeatures {
    type Request = UpdateFeaturesRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=2;

    fn handle(ctx: RequestContext, request: UpdateFeaturesRequest) -> Staged<UpdateFeaturesResponse> {
        Staged::Later(
            async move {
                let version = ctx.api_version;
                let timeout = patience(request.timeout_ms);
                let decide = move |image: &_| controller::update_features(image, &request, version);
                match ctx.broker.change(timeout, decide).await {
                    Ok(reply) => reply,
                    Err(error) => UpdateFeaturesResponse {
                        error_code: Broker::submit_error(&error),
                        ..UpdateFeaturesResponse::default()
                    },
                }
            }
            .boxed(),
        )
    }
}
