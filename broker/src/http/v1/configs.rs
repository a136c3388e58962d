//! Configs of resources.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use esker_admin::{ConfigChange, ConfigReport, ResourceKind, alter_configs, parse_resource, read_configs};
use esker_client::admin::ConfigOp;
use esker_protocol::primitives::Str;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::problem::{Failed, Problem};
use super::api::Api;
use super::extract::{Body, InPath, InQuery, invalid};

/// Which configs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ConfigsQuery {
    /// Also those at their defaults.
    all: Option<bool>,
}

/// The configs of a resource.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ConfigList {
    configs: Vec<ConfigReport>,
}

/// Configs to change; the others stay as they are.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfigRequest {
    /// Configs to set, and their values.
    #[serde(default)]
    set: BTreeMap<String, String>,
    /// Configs to set back to what holds without them.
    #[serde(default)]
    unset: Vec<String>,
}

/// Read the configs of a resource: those that are set, or all.
#[utoipa::path(
    get, path = "/v1/configs/{kind}/{name}", tag = "configs", operation_id = "read_configs",
    params(
        ("kind" = ResourceKind, Path, description = "What the resource is"),
        ("name" = String, Path, description = "Its name; a broker's id, or default for all brokers"),
        ConfigsQuery,
    ),
    responses((status = 200, body = ConfigList), Failed)
)]
pub(super) async fn read(
    State(api): State<Arc<Api>>,
    InPath((kind, name)): InPath<(ResourceKind, String)>,
    InQuery(query): InQuery<ConfigsQuery>,
) -> Result<Json<ConfigList>, Problem> {
    let resource = parse_resource(kind, &name)?;
    let configs = read_configs(&api.admin().await?, &resource, query.all.unwrap_or_default()).await?;
    Ok(Json(ConfigList { configs }))
}

/// Set and unset configs of a resource, all or none.
#[utoipa::path(
    patch, path = "/v1/configs/{kind}/{name}", tag = "configs", operation_id = "alter_configs",
    request_body = ConfigRequest,
    params(
        ("kind" = ResourceKind, Path, description = "What the resource is"),
        ("name" = String, Path, description = "Its name; a broker's id, or default for all brokers"),
    ),
    responses((status = 200, body = ConfigChange), Failed)
)]
pub(super) async fn alter(
    State(api): State<Arc<Api>>,
    InPath((kind, name)): InPath<(ResourceKind, String)>,
    Body(request): Body<ConfigRequest>,
) -> Result<Json<ConfigChange>, Problem> {
    let resource = parse_resource(kind, &name)?;
    let set = request.set.iter().map(|(key, value)| (Str::copy(key), ConfigOp::Set(Str::copy(value))));
    let unset = request.unset.iter().map(|key| (Str::copy(key), ConfigOp::Delete));
    let changes: Vec<_> = set.chain(unset).collect();
    if changes.is_empty() {
        return Err(invalid("nothing to change: name configs in set or unset"));
    }
    Ok(Json(alter_configs(&api.admin().await?, (&resource, &name), &changes).await?))
}
