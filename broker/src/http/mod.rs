//! HTTP: metrics for Prometheus, health for orchestrators, the version.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;

/// Why the HTTP listener could not be opened.
#[derive(Debug, Error)]
#[error("cannot serve HTTP on {address}: {source}; choose another address with --http")]
pub struct HttpError {
    /// The address asked for.
    pub address: String,
    /// The system's answer.
    #[source]
    pub source: std::io::Error,
}

/// Opens the listener.
pub async fn bind(address: &str) -> Result<(TcpListener, SocketAddr), HttpError> {
    let failed = |source| HttpError { address: address.to_owned(), source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, broker: Arc<Broker>, stop: CancellationToken) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/health/live", get(|| async { "alive\n" }))
        .route("/health/ready", get(ready))
        .route("/version", get(version))
        .with_state(broker);
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "HTTP ended");
    }
}

async fn ready(State(broker): State<Arc<Broker>>) -> Response {
    // It asks the file systems for their space.
    let asked = tokio::task::spawn_blocking(move || broker.not_ready()).await;
    match asked {
        Ok(None) => "ready\n".into_response(),
        Ok(Some(reason)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn metrics(State(broker): State<Arc<Broker>>) -> Response {
    // With many partitions and groups it is work for more than a moment: not on a worker that serves connections.
    let scraped = tokio::task::spawn_blocking(move || broker.metrics.scrape(&broker)).await;
    let text = scraped.map_err(|error| error.to_string()).and_then(|text| text.map_err(|error| error.to_string()));
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn version(State(broker): State<Arc<Broker>>) -> Json<serde_json::Value> {
    Json(json!({
        "name": "esker",
        "version": env!("CARGO_PKG_VERSION"),
        "kafka": "4.4",
        "node_id": broker.node_id,
        "cluster_id": broker.cluster_id.as_str(),
    }))
}
