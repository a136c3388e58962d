//! ApiVersions (18): what this broker serves; the first request of every client.
//!
//! The list is the list of handlers. v3 names the client's software (KIP-511) and carries features (KIP-584); v4 shows
//! features whose minimum is 0, which older Java clients cannot bear; v5 checks that the client reached the cluster and
//! node it means (KIP-1242). An unsupported version is answered in version 0 with error 35, so that any client can read
//! what to use instead.

use std::ops::RangeInclusive;

use esker_protocol::api::ApiKey;
use esker_protocol::encode_response;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use esker_protocol::primitives::Str;

use super::handler::{Handler, RequestContext, Staged};
use crate::server::Reply;
use crate::server::{CloseReason, Outcome};

/// The ApiVersions API.
pub struct ApiVersions;

impl Handler for ApiVersions {
    type Request = ApiVersionsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=5;

    fn handle(ctx: RequestContext, request: ApiVersionsRequest) -> Staged<ApiVersionsResponse> {
        let version = ctx.api_version;
        if version >= 3 {
            let (name, software) = (&request.client_software_name, &request.client_software_version);
            if !is_software(name) || !is_software(software) {
                return Staged::Ready(failed(ErrorCode::INVALID_REQUEST));
            }
            // A client that names itself twice keeps its first name.
            if ctx.connection.set_software(name.detached(), software.detached()) {
                let (network, listener) = (&ctx.broker.metrics.network, &ctx.connection.listener);
                ctx.connection.set_counted(network.count_software(name, software, listener));
            }
        }
        if version >= 5 && !is_meant(&ctx, &request) {
            return Staged::Ready(failed(ErrorCode::REBOOTSTRAP_REQUIRED));
        }
        Staged::Ready(answer(&ctx))
    }
}

fn failed(error_code: ErrorCode) -> ApiVersionsResponse {
    ApiVersionsResponse { error_code, ..ApiVersionsResponse::default() }
}

/// KIP-511: letters, digits, dots and dashes, with a letter or digit at both ends.
fn is_software(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    ends(text.chars().next())
        && ends(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
}

fn is_meant(ctx: &RequestContext, request: &ApiVersionsRequest) -> bool {
    let cluster = request.cluster_id.as_ref().is_none_or(|id| *id == ctx.broker.cluster_id);
    let node = request.node_id == -1 || request.node_id == ctx.broker.node_id;
    cluster && node
}

fn answer(ctx: &RequestContext) -> ApiVersionsResponse {
    let mut api_keys: Vec<_> = ctx
        .routes
        .iter()
        .map(|route| ApiVersion {
            api_key: route.key.0,
            min_version: route.min_version,
            max_version: route.max_version,
        })
        .collect();
    api_keys.sort_by_key(|api| api.api_key);
    let mut response = ApiVersionsResponse { api_keys, ..ApiVersionsResponse::default() };
    if ctx.api_version < 3 {
        return response;
    }
    let image = ctx.broker.metadata.image();
    response.supported_features = esker_core::metadata::SUPPORTED_FEATURES
        .iter()
        .filter(|feature| ctx.api_version >= 4 || feature.min_level > 0)
        .map(|feature| SupportedFeatureKey {
            name: Str::from(feature.name),
            min_version: feature.min_level,
            max_version: feature.max_level,
        })
        .collect();
    response.finalized_features_epoch = i64::try_from(image.offset()).unwrap_or(i64::MAX);
    response.finalized_features = image
        .features()
        .filter(|(_, level)| *level > 0)
        .map(|(name, level)| FinalizedFeatureKey {
            name: name.clone(),
            max_version_level: level,
            min_version_level: level,
        })
        .collect();
    response
}

/// The answer to an unsupported version: in version 0, with the supported range.
pub(super) fn answer_unsupported(ctx: &RequestContext, correlation_id: i32) -> Outcome {
    let range = <ApiVersions as Handler>::VERSIONS;
    let own = ApiVersion { api_key: ApiKey::API_VERSIONS.0, min_version: *range.start(), max_version: *range.end() };
    let response = ApiVersionsResponse { api_keys: vec![own], ..failed(ErrorCode::UNSUPPORTED_VERSION) };
    match encode_response(ApiKey::API_VERSIONS, 0, correlation_id, &response) {
        Ok(chunks) => {
            let call = (ApiKey::API_VERSIONS, 0);
            let answered = ctx.broker.metrics.requests.answered(call, ctx.arrival, None, chunks.errors());
            Outcome::Ready(Reply::Frame(chunks, Some(answered)))
        }
        Err(_) => Outcome::Refused(CloseReason::Unencodable(ApiKey::API_VERSIONS, 0)),
    }
}
