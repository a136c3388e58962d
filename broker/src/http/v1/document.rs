//! The routes of `/v1` and the OpenAPI document of them, from one list: what is served is documented, and the other way around.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use esker_admin::ResourceKind;
use utoipa::OpenApi;
use utoipa::openapi::PathItem;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::super::problem::{Failed, Failure, Problem};
use super::api::Api;
use super::{
    cluster, configs, drain, groups, nodes, reassignments, rebalances, safe_to_stop, seek, topics, transactions,
};
use crate::build::BUILD;

/// What the document begins with.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Esker",
        description = "A cluster to read and to change. Any node answers for the whole cluster. Errors are problem details (RFC 9457) \
                       with Kafka's error code. Lists come in pages: `next` of one page is `after` of the following one. Changes need the \
                       header `Content-Type: application/json`."
    ),
    components(schemas(Problem, Failure, ResourceKind)),
    tags(
        (name = "cluster", description = "The cluster and its nodes"),
        (name = "topics", description = "Topics and partitions"),
        (name = "configs", description = "Configs of topics, brokers, groups, client metrics and loggers"),
        (name = "groups", description = "Consumer groups"),
        (name = "transactions", description = "Transactions"),
        (name = "reassignments", description = "Replicas that move"),
    )
)]
struct Document;

/// An operation, for the list of what there is.
#[derive(Debug, Clone)]
pub(in super::super) struct Operation {
    /// The path.
    pub path: String,
    /// The methods.
    pub methods: Vec<&'static str>,
    /// What the first of them does.
    pub summary: String,
}

/// All routes, with their documentation.
pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    let mut document = Document::openapi();
    document.info.version = BUILD.version.to_owned();
    OpenApiRouter::with_openapi(document)
        .routes(routes!(openapi))
        .routes(routes!(cluster::read))
        .routes(routes!(nodes::list))
        .routes(routes!(nodes::read))
        .routes(routes!(safe_to_stop::read))
        .routes(routes!(nodes::cordon))
        .routes(routes!(nodes::uncordon))
        .routes(routes!(drain::read, drain::begin))
        .routes(routes!(topics::list, topics::create))
        .routes(routes!(topics::read, topics::grow, topics::delete))
        .routes(routes!(topics::partitions))
        .routes(routes!(configs::read, configs::alter))
        .routes(routes!(groups::list))
        .routes(routes!(groups::read, groups::delete))
        .routes(routes!(rebalances::list))
        .routes(routes!(seek::seek))
        .routes(routes!(transactions::list))
        .routes(routes!(transactions::read))
        .routes(routes!(transactions::abort))
        .routes(routes!(reassignments::list, reassignments::begin))
        .routes(routes!(reassignments::cancel))
}

/// The OpenAPI document of `/v1`.
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "cluster", operation_id = "read_document",
    responses((status = 200, body = serde_json::Value), Failed)
)]
async fn openapi(State(api): State<Arc<Api>>) -> Result<([(HeaderName, HeaderValue); 1], Bytes), Problem> {
    let bytes = match api.document.get() {
        Some(bytes) => bytes.clone(),
        None => {
            let failed = |error: serde_json::Error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string());
            let text = routes().into_openapi().to_pretty_json().map_err(failed)?;
            api.document.get_or_init(|| text.into()).clone()
        }
    };
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], bytes))
}

/// What there is, by path.
pub(super) fn operations() -> Vec<Operation> {
    let paths = routes().into_openapi().paths.paths;
    paths.into_iter().map(|(path, item)| operation(path, &item)).collect()
}

fn operation(path: String, item: &PathItem) -> Operation {
    let all = [("GET", &item.get), ("POST", &item.post), ("PATCH", &item.patch), ("DELETE", &item.delete)];
    let mut summary = String::new();
    let mut methods = Vec::new();
    for (method, found) in all {
        let Some(found) = found else { continue };
        methods.push(method);
        if summary.is_empty() {
            summary = found.summary.clone().unwrap_or_default();
        }
    }
    Operation { path, methods, summary }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn operations_have_ids_summaries_and_problems() {
        let document = serde_json::to_value(routes().into_openapi()).unwrap();
        assert_eq!(document["info"]["version"], BUILD.version);
        let mut ids = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            assert!(path.starts_with("/v1/"), "{path}");
            for (method, operation) in item.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap_or_default();
                assert!(!id.is_empty() && ids.insert(id.to_owned()), "{method} {path}: {id:?} is not an id of its own");
                assert!(!operation["summary"].as_str().unwrap_or_default().is_empty(), "{method} {path}");
                assert!(!operation["tags"].as_array().unwrap().is_empty(), "{method} {path}");
                let problem = &operation["responses"]["default"]["content"]["application/problem+json"];
                assert!(problem["schema"]["$ref"].as_str().unwrap().ends_with("/Problem"), "{method} {path}");
            }
        }
        assert!(ids.len() > 20, "{ids:?}");
    }

    #[test]
    fn references_lead_somewhere() {
        let document = serde_json::to_value(routes().into_openapi()).unwrap();
        let text = document.to_string();
        for reference in text.split("\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
    }
}
