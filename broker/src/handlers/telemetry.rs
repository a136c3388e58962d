//! GetTelemetrySubscriptions (71) and PushTelemetry (72): metrics of clients (KIP-714). Every broker receives them.

use std::ops::RangeInclusive;
use std::sync::Arc;

use esker_core::client_metrics::{ClientAttributes, PushRequest, Refusal};
use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::get_telemetry_subscriptions::{
    GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse,
};
use esker_protocol::messages::push_telemetry::{PushTelemetryRequest, PushTelemetryResponse};
use esker_protocol::primitives::{Str, Uuid};

use super::handler::{Handler, RequestContext, Staged};
use crate::client_telemetry::PushedMetrics;

/// Compressions of a push, the best first, in Kafka's order.
const ACCEPTED: [Compression; 4] = [Compression::Zstd, Compression::Lz4, Compression::Gzip, Compression::Snappy];
/// Software of a client that did not name it.
const UNKNOWN: &str = "unknown";

/// The GetTelemetrySubscriptions API.
pub struct GetTelemetrySubscriptions;

/// The PushTelemetry API.
pub struct PushTelemetry;

impl Handler for GetTelemetrySubscriptions {
    type Request = GetTelemetrySubscriptionsRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn handle(
        ctx: RequestContext,
        request: GetTelemetrySubscriptionsRequest,
    ) -> Staged<GetTelemetrySubscriptionsResponse> {
        let id = request.client_instance_id;
        let id = if id.is_zero() { ctx.broker.node.random_id() } else { id };
        let telemetry = &ctx.broker.client_telemetry;
        let answer = telemetry.get_subscription(&ctx.broker.metadata.image(), &attributes(&ctx, id));
        Staged::Ready(match answer {
            Ok(subscription) => GetTelemetrySubscriptionsResponse {
                client_instance_id: id,
                subscription_id: subscription.subscription_id,
                accepted_compression_types: ACCEPTED.iter().map(|codec| codec.id().cast_signed()).collect(),
                push_interval_ms: subscription.push_interval_ms,
                telemetry_max_bytes: i32::try_from(telemetry.max_bytes()).unwrap_or(i32::MAX),
                delta_temporality: true,
                requested_metrics: subscription.metrics,
                ..GetTelemetrySubscriptionsResponse::default()
            },
            Err(refusal) => GetTelemetrySubscriptionsResponse {
                error_code: refusal.code(),
                ..GetTelemetrySubscriptionsResponse::default()
            },
        })
    }
}

impl Handler for PushTelemetry {
    type Request = PushTelemetryRequest;
    const VERSIONS: RangeInclusive<i16> = 0..=0;

    fn handle(ctx: RequestContext, request: PushTelemetryRequest) -> Staged<PushTelemetryResponse> {
        let client = attributes(&ctx, request.client_instance_id);
        let telemetry = Arc::clone(&ctx.broker.client_telemetry);
        let push = PushRequest {
            subscription_id: request.subscription_id,
            terminating: request.terminating,
            compression: request.compression_type,
            bytes: request.metrics.len(),
            max_bytes: telemetry.max_bytes(),
        };
        match telemetry.accept_push(&ctx.broker.metadata.image(), &client, push) {
            Err(refusal) => Staged::Ready(answer(Err(refusal))),
            Ok(_) if request.metrics.is_empty() => Staged::Ready(answer(Ok(()))),
            Ok(interval_ms) => {
                let pushed = PushedMetrics { compression: push.compression, interval_ms, metrics: request.metrics };
                Staged::start(async move { answer(telemetry.store(client, pushed).await) })
            }
        }
    }
}

fn answer(result: Result<(), Refusal>) -> PushTelemetryResponse {
    let error_code = result.err().map_or(ErrorCode::NONE, Refusal::code);
    PushTelemetryResponse { error_code, ..PushTelemetryResponse::default() }
}

fn attributes(ctx: &RequestContext, instance_id: Uuid) -> ClientAttributes {
    let software = ctx.connection.software.get();
    let (name, version) =
        software.map_or((Str::from(UNKNOWN), Str::from(UNKNOWN)), |(name, version)| (name.clone(), version.clone()));
    ClientAttributes {
        instance_id,
        client_id: ctx.client_id.clone(),
        software_name: name,
        software_version: version,
        source_address: ctx.connection.peer.ip().to_string(),
        source_port: ctx.connection.peer.port(),
    }
}
