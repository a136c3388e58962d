//! Health for orchestrators: whether clients may be sent here, and what keeps them away.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use esker_core::health::{Done, StartStep};
use esker_storage::Progress;

use super::served::Served;

/// `GET /health/ready`: 200, or 503 and what blocks, one line a reason.
pub(super) async fn ready(State(served): State<Arc<Served>>) -> Response {
    let Some(broker) = served.broker.get().cloned() else { return not_ready(&start_lines(&served)) };
    // `not_ready` queries the free space of the log dirs, which may block.
    let node = broker.node.clone();
    let asked = node.run_blocking(move || broker.not_ready().ok_or_else(|| broker.concerns())).await;
    match asked {
        Ok(Err(_)) if served.progress.step() != StartStep::Serving => not_ready(&start_lines(&served)),
        Ok(Err(concerns)) => format!("ready\n{}", text(&concerns)).into_response(),
        Ok(Ok(reason)) => not_ready(&[reason]),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

fn start_lines(served: &Served) -> Vec<String> {
    let done = |progress: Progress| Done { done: progress.done as u64, all: progress.all as u64 };
    served.progress.lines((done(served.loading.partitions()), done(served.loading.segments())))
}

fn not_ready(lines: &[String]) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, text(lines)).into_response()
}

fn text(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}
