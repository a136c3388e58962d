//! Topics: list, create, read, grow, delete; their partitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use esker_admin::{PartitionDetail, TopicDetail, TopicSummary, list_topics, read_partitions, read_topic_detail};
use esker_client::admin::NewTopic;
use esker_protocol::primitives::Str;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::problem::{Failed, Problem};
use super::api::Api;
use super::extract::{Body, InPath, InQuery, PageQuery, page};

/// Which topics.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TopicsQuery {
    /// Items at most, up to 10000 [default: 1000].
    #[param(minimum = 1, maximum = 10000)]
    limit: Option<usize>,
    /// Only items behind this one: `next` of the page before.
    after: Option<String>,
    /// Internal topics, too.
    internal: Option<bool>,
}

/// A page of topics.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TopicPage {
    topics: Vec<TopicSummary>,
    /// `after` of the next page; null at the end.
    next: Option<String>,
}

/// A topic to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TopicRequest {
    /// Its name.
    name: String,
    /// Partitions [default: the broker's num.partitions].
    partitions: Option<i32>,
    /// Copies of each partition [default: the broker's default.replication.factor].
    replication_factor: Option<i16>,
    /// Configs of its own.
    #[serde(default)]
    configs: BTreeMap<String, String>,
    /// Check the request, and create nothing.
    #[serde(default)]
    dry_run: bool,
}

/// A topic that was created.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CreatedTopicReport {
    /// Its name.
    name: String,
    /// `created`, or `valid` where nothing was to be created.
    outcome: &'static str,
    /// Its id.
    id: String,
    /// Its partitions.
    partitions: i32,
    /// Copies of each partition.
    replication_factor: i16,
}

/// New partitions.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GrowRequest {
    /// Partitions in all, more than there are.
    partitions: i32,
}

/// A topic with more partitions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GrownTopic {
    /// Its name.
    name: String,
    /// `changed`.
    outcome: &'static str,
    /// Partitions in all.
    partitions: i32,
}

/// A page of partitions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PartitionPage {
    topic: String,
    partitions: Vec<PartitionDetail>,
    /// `after` of the next page; null at the end.
    next: Option<i32>,
}

/// List topics.
#[utoipa::path(
    get, path = "/v1/topics", tag = "topics", operation_id = "list_topics", params(TopicsQuery),
    responses((status = 200, body = TopicPage), Failed)
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    InQuery(query): InQuery<TopicsQuery>,
) -> Result<Json<TopicPage>, Problem> {
    let page = page::<String>(query.limit, query.after.as_deref())?;
    let topics = list_topics(&api.admin().await?, query.internal.unwrap_or_default()).await?;
    let (topics, next) = page.cut(topics, |topic| topic.name.clone());
    Ok(Json(TopicPage { topics, next }))
}

/// Create a topic.
#[utoipa::path(
    post, path = "/v1/topics", tag = "topics", operation_id = "create_topic", request_body = TopicRequest,
    responses(
        (status = 201, body = CreatedTopicReport, headers(("Location" = String, description = "The path of the topic"))),
        (status = 200, body = CreatedTopicReport, description = "With dry_run: the topic could be created"),
        Failed,
    )
)]
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Body(request): Body<TopicRequest>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<CreatedTopicReport>), Problem> {
    let TopicRequest { name, partitions, replication_factor, configs, dry_run } = request;
    let topic = NewTopic {
        name: Str::copy(&name),
        partitions: partitions.unwrap_or(-1),
        replication: replication_factor.unwrap_or(-1),
        configs: configs.iter().map(|(key, value)| (Str::copy(key), Str::copy(value))).collect(),
    };
    let results = api.admin().await?.create_topics(&[topic], dry_run).await?;
    let missing =
        || Problem::new(StatusCode::BAD_GATEWAY, "the broker left the topic out of its answer: look, and try again");
    let created = results.into_iter().next().ok_or_else(missing)??;
    let (status, outcome) = if dry_run { (StatusCode::OK, "valid") } else { (StatusCode::CREATED, "created") };
    // A name that is valid needs no escapes in a path.
    let location = [(header::LOCATION, format!("/v1/topics/{name}"))];
    let report = CreatedTopicReport {
        name,
        outcome,
        id: created.id.to_string(),
        partitions: created.partitions,
        replication_factor: created.replication,
    };
    Ok((status, location, Json(report)))
}

/// Read a topic with the configs that are set on it.
#[utoipa::path(
    get, path = "/v1/topics/{name}", tag = "topics", operation_id = "read_topic",
    params(("name" = String, Path, description = "The topic's name")),
    responses((status = 200, body = TopicDetail), Failed)
)]
pub(super) async fn read(
    State(api): State<Arc<Api>>,
    InPath(name): InPath<String>,
) -> Result<Json<TopicDetail>, Problem> {
    Ok(Json(read_topic_detail(&api.admin().await?, &name).await?))
}

/// Give a topic more partitions.
///
/// Its configs are at `/v1/configs/topic/{name}`.
#[utoipa::path(
    patch, path = "/v1/topics/{name}", tag = "topics", operation_id = "grow_topic", request_body = GrowRequest,
    params(("name" = String, Path, description = "The topic's name")),
    responses((status = 200, body = GrownTopic), Failed)
)]
pub(super) async fn grow(
    State(api): State<Arc<Api>>,
    InPath(name): InPath<String>,
    Body(request): Body<GrowRequest>,
) -> Result<Json<GrownTopic>, Problem> {
    api.admin().await?.create_partitions(&name, request.partitions).await?;
    Ok(Json(GrownTopic { name, outcome: "changed", partitions: request.partitions }))
}

/// Delete a topic and its records.
#[utoipa::path(
    delete, path = "/v1/topics/{name}", tag = "topics", operation_id = "delete_topic",
    params(("name" = String, Path, description = "The topic's name")),
    responses((status = 204, description = "The topic is deleted"), Failed)
)]
pub(super) async fn delete(State(api): State<Arc<Api>>, InPath(name): InPath<String>) -> Result<StatusCode, Problem> {
    for deleted in api.admin().await?.delete_topics(&[Str::copy(&name)]).await? {
        deleted?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// List the partitions of a topic: leader, replicas, offsets, sizes on disk.
#[utoipa::path(
    get, path = "/v1/topics/{name}/partitions", tag = "topics", operation_id = "list_partitions",
    params(("name" = String, Path, description = "The topic's name"), PageQuery),
    responses((status = 200, body = PartitionPage), Failed)
)]
pub(super) async fn partitions(
    State(api): State<Arc<Api>>,
    InPath(name): InPath<String>,
    InQuery(query): InQuery<PageQuery>,
) -> Result<Json<PartitionPage>, Problem> {
    let page = query.page()?;
    let (partitions, next) = read_partitions(api.client().await?, &name, &page).await?;
    Ok(Json(PartitionPage { topic: name, partitions, next }))
}
