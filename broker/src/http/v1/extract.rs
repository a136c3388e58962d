//! Parts of requests, each refused with a problem where it makes no sense.

use std::fmt::Display;
use std::str::FromStr;

use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use esker_admin::Page;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use super::super::problem::Problem;

/// Bytes of a body.
const MAX_BODY: usize = 1 << 20;
/// Items of a page, unless the request says otherwise.
const DEFAULT_LIMIT: usize = 1000;
/// Items of a page at most.
const MAX_LIMIT: usize = 10_000;

/// A body of JSON. An empty one stands for an object without fields.
#[derive(Debug)]
pub(super) struct Body<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let bytes = to_bytes(request.into_body(), MAX_BODY).await.map_err(|_| {
            let detail = format!("the body has more than {MAX_BODY} bytes, or was cut off: send less in a request");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
        })?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        let parsed = serde_json::from_slice(text);
        parsed.map(Self).map_err(|error| invalid(format!("the body does not fit: {error}")))
    }
}

/// The parameters in the path.
#[derive(Debug)]
pub(super) struct InPath<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(found) = Path::from_request_parts(parts, state).await.map_err(|error| invalid(error.body_text()))?;
        Ok(Self(found))
    }
}

/// The parameters behind the question mark.
#[derive(Debug)]
pub(super) struct InQuery<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for InQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let Query(found) = Query::try_from_uri(&parts.uri).map_err(|error| invalid(error.body_text()))?;
        Ok(Self(found))
    }
}

/// Which part of a list.
#[derive(Debug, Default, serde::Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Items at most, up to 10000 [default: 1000].
    #[param(minimum = 1, maximum = 10000)]
    limit: Option<usize>,
    /// Only items behind this one: `next` of the page before.
    after: Option<String>,
}

impl PageQuery {
    /// The page.
    pub(super) fn page<K: FromStr<Err: Display>>(self) -> Result<Page<K>, Problem> {
        page(self.limit, self.after.as_deref())
    }
}

/// The page of a limit and a key.
pub(super) fn page<K: FromStr<Err: Display>>(limit: Option<usize>, after: Option<&str>) -> Result<Page<K>, Problem> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(invalid(format!("limit is a number from 1 to {MAX_LIMIT}, not {limit}")));
    }
    let after = after.map(str::parse).transpose().map_err(|error| invalid(format!("after: {error}")))?;
    Ok(Page { limit, after })
}

/// The id of a node in a path.
pub(super) fn parse_node(text: &str) -> Result<i32, Problem> {
    text.parse().map_err(|_| unknown_node(text))
}

/// A node that the cluster does not have.
pub(super) fn unknown_node(id: impl Display) -> Problem {
    let detail = format!("the cluster has no node {id}: /v1/nodes lists those that it has");
    Problem::new(StatusCode::NOT_FOUND, detail)
}

/// A request that makes no sense.
pub(super) fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}
