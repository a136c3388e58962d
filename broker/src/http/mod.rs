//! HTTP: metrics for Prometheus, health for orchestrators, the version, why groups rebalanced, whether a node may be stopped.
//!
//! It answers before the node is in a cluster and before the logs are open, so that an operator sees what a start waits for.

mod groups;
mod health;
pub(crate) mod metrics;
mod nodes;
mod problem;
mod served;

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

pub use served::Served;

use metrics::{scrape, scrape_start};

/// Why the HTTP listener could not be opened.
#[derive(Debug, Error)]
#[error("cannot serve HTTP on {address}: {source}; choose another address with --http")]
pub struct HttpError {
    /// The requested address.
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
pub async fn serve(listener: TcpListener, served: Arc<Served>, stop: CancellationToken) {
    let router = Router::new()
        .route("/metrics", get(all_metrics))
        .route("/health/live", get(|| async { "alive\n" }))
        .route("/health/ready", get(health::ready))
        .route("/version", get(version))
        .route("/v1/groups/{group}/rebalances", get(groups::rebalances))
        .route("/v1/nodes/{id}/safe-to-stop", get(nodes::safe_to_stop))
        .with_state(served);
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "HTTP ended");
    }
}

async fn all_metrics(State(served): State<Arc<Served>>) -> Response {
    // With many partitions and groups it is work for more than a moment: not on a worker that serves connections.
    let step = served.progress.step();
    let text = match served.broker.get().cloned() {
        Some(broker) => {
            let node = broker.node.clone();
            node.run_blocking(move || scrape(&broker, step, &served.ages)).await.map_err(|error| error.to_string())
        }
        None => Ok(scrape_start(step, &served.loading)),
    };
    match text.and_then(|text| text.map_err(|error| error.to_string())) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn version(State(served): State<Arc<Served>>) -> Json<serde_json::Value> {
    let broker = served.broker.get();
    Json(json!({
        "name": "esker",
        "version": env!("CARGO_PKG_VERSION"),
        "kafka": "4.4",
        "node_id": broker.map(|broker| broker.node_id),
        "cluster_id": broker.map(|broker| broker.cluster_id.as_str()),
    }))
}

#[cfg(test)]
mod tests {
    use esker_core::health::StartStep;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn get_path(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: esker\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn it_tells_of_a_start_that_is_not_over() {
        let (listener, address) = bind("127.0.0.1:0").await.unwrap();
        let stop = CancellationToken::new();
        let served = Arc::new(Served::default());
        let serving = tokio::spawn(serve(listener, Arc::clone(&served), stop.clone()));
        let reason = "127.0.0.1:9093 does not answer: connection refused";
        served.progress.report_blocked(StartStep::Forming, vec![reason.to_owned()]);
        let ready = get_path(address, "/health/ready").await;
        assert!(ready.starts_with("HTTP/1.1 503") && ready.contains(reason), "{ready}");
        assert!(get_path(address, "/metrics").await.contains("kafka_server_kafkaserver_brokerstate 1"));
        let stop_asked = get_path(address, "/v1/nodes/1/safe-to-stop").await;
        assert!(stop_asked.starts_with("HTTP/1.1 503"), "{stop_asked}");
        assert!(stop_asked.contains("application/problem+json"), "{stop_asked}");
        served.progress.begin(StartStep::OpeningLogs);
        let ready = get_path(address, "/health/ready").await;
        assert!(ready.starts_with("HTTP/1.1 503"), "{ready}");
        assert!(ready.contains("starting: 0 of 0 partitions are open"), "{ready}");
        assert!(get_path(address, "/health/live").await.starts_with("HTTP/1.1 200"));
        let metrics = get_path(address, "/metrics").await;
        for line in ["kafka_server_kafkaserver_brokerstate 2", "kafka_log_logmanager_remaininglogstorecover 0"] {
            assert!(metrics.contains(line), "{line} is not in {metrics}");
        }
        assert!(get_path(address, "/version").await.contains("\"node_id\":null"));
        stop.cancel();
        serving.await.unwrap();
    }
}
