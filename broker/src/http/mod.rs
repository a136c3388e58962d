//! HTTP: metrics for Prometheus, health for orchestrators, the version, and `/v1`: the cluster to read and to change.
//!
//! It answers before the node is in a cluster and before the logs are open, so that an operator sees what a start waits for.

mod access;
mod health;
mod index;
pub(crate) mod metrics;
mod problem;
mod served;
mod v1;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Json, Router};
use serde_json::json;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

pub use access::Access;
pub use served::Served;
use v1::V1;

use crate::build::BUILD;
use crate::telemetry::Page;
use metrics::{Ends, table, write, write_start};

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
pub async fn serve(listener: TcpListener, served: Arc<Served>, access: Access, stop: CancellationToken) {
    let v1 = Arc::new(V1::new(Arc::clone(&served), access, stop.clone()));
    let answer_v1 = async |State(v1): State<Arc<V1>>, request: Request| v1.answer(request).await;
    let cluster = Router::new()
        .route("/", get(async |State(v1): State<Arc<V1>>, headers: HeaderMap| index::answer(&v1, &headers)))
        .route("/v1", any(answer_v1))
        .route("/v1/{*rest}", any(answer_v1))
        .with_state(v1);
    let router = Router::new()
        .route("/metrics", get(all_metrics))
        .route("/metrics/table", get(metrics_table))
        .route("/health/live", get(|| async { "alive\n" }))
        .route("/health/ready", get(health::ready))
        .route("/version", get(version))
        .with_state(served)
        .merge(cluster);
    let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "HTTP ended");
    }
}

/// How long a scrape may wait for the one before it.
const SCRAPE_WAIT: Duration = Duration::from_secs(10);

async fn all_metrics(State(served): State<Arc<Served>>, headers: HeaderMap) -> Response {
    let compress = accepts_gzip(&headers);
    let bytes = scrape(served, Page::new(compress), |page| page.finish().map_err(|error| error.to_string())).await;
    let kind = (header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    match bytes {
        Ok(bytes) if compress => ([kind, (header::CONTENT_ENCODING, "gzip")], bytes).into_response(),
        Ok(bytes) => ([kind], bytes).into_response(),
        Err(error) => error,
    }
}

async fn metrics_table(State(served): State<Arc<Served>>) -> Response {
    let text = scrape(served, Page::new(false), |page| {
        // What each page ends with is among its families once it is finished.
        page.finish_families().map(|families| table(&families)).map_err(|error| error.to_string())
    });
    let kind = (header::CONTENT_TYPE, "text/markdown; charset=utf-8");
    text.await.map_or_else(|error| error, |text| ([kind], text).into_response())
}

/// Fills a page, one scrape at a time, and has `finish` make something of it.
async fn scrape<T: Send + 'static>(
    served: Arc<Served>,
    mut page: Page,
    finish: impl FnOnce(Page) -> Result<T, String> + Send + 'static,
) -> Result<T, Response> {
    let workers = Handle::current().metrics();
    let Ok(mut scraper) = tokio::time::timeout(SCRAPE_WAIT, Arc::clone(&served.scraper).lock_owned()).await else {
        let why = "other scrapes are under way: scrape less often\n";
        return Err((StatusCode::TOO_MANY_REQUESTS, why).into_response());
    };
    let finished = match served.broker.get().cloned() {
        Some(broker) => {
            scraper.ends = Ends::ask_leaders(&broker).await;
            // With many partitions and groups it is work for more than a moment: not on a worker that serves connections.
            let node = broker.node.clone();
            let work = move || {
                write(&broker, (served.stage(), &served.loading), &workers, &scraper, &mut page);
                finish(page)
            };
            node.run_blocking(work).await.map_err(|error| error.to_string()).flatten()
        }
        None => {
            write_start(served.stage(), &served.loading, &mut page);
            finish(page)
        }
    };
    finished.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response())
}

/// Whether the client takes gzip: it is named, and not with a weight of 0.
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let codings = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    codings.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let weight = parts.find_map(|part| part.strip_prefix("q=")).and_then(|weight| weight.parse::<f32>().ok());
        is_gzip && weight.is_none_or(|weight| weight > 0.0)
    })
}

async fn version(State(served): State<Arc<Served>>) -> Json<serde_json::Value> {
    let broker = served.broker.get();
    Json(json!({
        "name": "esker",
        "version": BUILD.version,
        "commit": BUILD.commit,
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

    use crate::config::HttpChanges;

    use super::*;

    async fn get_path(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[test]
    fn gzip_is_negotiated() {
        for (value, expected) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0, br", false),
            ("br", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, value.parse().unwrap());
            assert_eq!(accepts_gzip(&headers), expected, "{value}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn it_tells_of_a_start_that_is_not_over() {
        let (listener, address) = bind("127.0.0.1:0").await.unwrap();
        let stop = CancellationToken::new();
        let served = Arc::new(Served::default());
        let access = Access::new(address, HttpChanges::Loopback);
        let serving = tokio::spawn(serve(listener, Arc::clone(&served), access, stop.clone()));
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
        let index = get_path(address, "/").await;
        for (path, _) in index::PATHS {
            assert!(index.contains(&format!("\"path\":\"{path}\"")), "{path} is not in {index}");
            assert!(!get_path(address, path).await.starts_with("HTTP/1.1 404"), "{path}");
        }
        stop.cancel();
        serving.await.unwrap();
    }
}
