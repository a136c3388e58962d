//! `/`: what there is.

use std::fmt::Write;

use axum::Json;
use axum::http::{HeaderMap, header};
use axum::response::{Html, IntoResponse, Response};
use serde::Serialize;

use super::v1::V1;
use crate::build::BUILD;

/// The paths beside `/v1`, and what each answers.
pub(super) const PATHS: [(&str, &str); 6] = [
    ("/", "List what there is."),
    ("/health/live", "Read whether the process works."),
    ("/health/ready", "Read whether clients are served, or what a start waits for."),
    ("/metrics", "Read the metrics, for Prometheus."),
    ("/metrics/table", "Read what metrics there are, as a table in Markdown."),
    ("/version", "Read the version."),
];

#[derive(Debug, Serialize)]
struct Index<'a> {
    name: &'static str,
    version: &'static str,
    openapi: &'static str,
    paths: Vec<Entry<'a>>,
}

#[derive(Debug, Serialize)]
struct Entry<'a> {
    path: &'a str,
    methods: Vec<&'static str>,
    summary: &'a str,
}

/// Answers with JSON, or with a page where the client wants one.
pub(super) fn answer(v1: &V1, headers: &HeaderMap) -> Response {
    let own = PATHS.iter().map(|(path, summary)| Entry { path, methods: vec!["GET"], summary });
    let served = v1.operations().iter().map(|operation| Entry {
        path: &operation.path,
        methods: operation.methods.clone(),
        summary: &operation.summary,
    });
    let paths: Vec<Entry<'_>> = own.chain(served).collect();
    if wants_page(headers) {
        return Html(page(&paths)).into_response();
    }
    Json(Index { name: "esker", version: BUILD.version, openapi: "/v1/openapi.json", paths }).into_response()
}

fn wants_page(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.any(|value| value.contains("text/html"))
}

/// A page of links. All texts are constants of this program.
fn page(paths: &[Entry<'_>]) -> String {
    let mut rows = String::new();
    for Entry { path, methods, summary } in paths {
        let is_link = methods.contains(&"GET") && !path.contains('{');
        let path = if is_link { format!("<a href=\"{path}\">{path}</a>") } else { (*path).to_owned() };
        // A write to a string does not fail.
        let _ = writeln!(rows, "<tr><td>{}</td><td>{path}</td><td>{summary}</td></tr>", methods.join(" "));
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Esker</title></head><body>\n\
         <h1>Esker {}</h1>\n<table>\n{rows}</table>\n</body></html>\n",
        BUILD.version
    )
}
