//! Errors of `/v1`: problem details (RFC 9457), with Kafka's error code where a broker gave one.

use std::collections::BTreeMap;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use esker_admin::AdminError;
use esker_client::{ConnectionError, Error, ErrorCode, advice};
use serde::Serialize;
use utoipa::openapi::{Content, RefOr, Response as DocumentedResponse, ResponseBuilder, schema::Ref};
use utoipa::{IntoResponses, ToSchema};

/// The media type of problem details.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// An answer that says what is wrong, and what to do.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Problem {
    /// Always `about:blank`: the status says what kind of problem it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The reason phrase of the status.
    title: &'static str,
    /// The status of the answer.
    status: u16,
    /// What is wrong, and what to do.
    detail: String,
    /// Kafka's error code, where a broker gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<i16>,
    /// The name of Kafka's error code.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_name: Option<&'static str>,
    /// The parts of the request that failed, where it has several; the others have been carried out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failures: Vec<Failure>,
}

/// A part of a request that failed.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Failure {
    /// Which part.
    pub name: String,
    /// What is wrong.
    pub detail: String,
    /// Kafka's error code, where a broker gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<i16>,
    /// The name of Kafka's error code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_name: Option<&'static str>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Problem"),
            status: status.as_u16(),
            detail: detail.into(),
            error_code: None,
            error_name: None,
            failures: Vec::new(),
        }
    }

    fn with_code(self, code: Option<ErrorCode>) -> Self {
        Self { error_code: code.map(|code| code.0), error_name: code.map(ErrorCode::name), ..self }
    }

    /// The problem of a request of which some parts failed.
    pub(super) fn of_parts(failures: Vec<(String, Error)>) -> Option<Self> {
        let first = Self::from(failures.first()?.1.clone());
        let failure = |(name, error): (String, Error)| Failure {
            name,
            error_code: error.code().map(|code| code.0),
            error_name: error.code().map(ErrorCode::name),
            detail: error.to_string(),
        };
        Some(Self { failures: failures.into_iter().map(failure).collect(), ..first })
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_string(&self).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], body).into_response();
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::Refused { code, .. } => status_of(*code),
            Error::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
            Error::Connection(ConnectionError::Timeout { .. }) => StatusCode::GATEWAY_TIMEOUT,
            Error::Connection(ConnectionError::Unsupported { .. }) => StatusCode::NOT_IMPLEMENTED,
            Error::Connection(ConnectionError::Encode { .. }) | Error::Invalid(_) => StatusCode::BAD_REQUEST,
            Error::Connection(ConnectionError::Decode { .. }) | Error::OtherCluster { .. } => StatusCode::BAD_GATEWAY,
            Error::Connection(_) | Error::NoBroker { .. } | Error::Closed => StatusCode::SERVICE_UNAVAILABLE,
            Error::Corrupt { .. } | Error::NoOffset { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut detail = error.to_string();
        if error.is_retriable() && error.code().is_none_or(|code| advice(code).is_empty()) {
            detail.push_str("; try again");
        }
        Self::new(status, detail).with_code(error.code())
    }
}

impl From<AdminError> for Problem {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Client(error) => error.into(),
            AdminError::Missing(text) => Self::new(StatusCode::NOT_FOUND, text),
            AdminError::Invalid(text) => Self::new(StatusCode::BAD_REQUEST, text),
            AdminError::Refused(text) => Self::new(StatusCode::CONFLICT, text),
        }
    }
}

/// The status of a refusal.
fn status_of(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::UNKNOWN_TOPIC_ID
        | ErrorCode::GROUP_ID_NOT_FOUND
        | ErrorCode::TRANSACTIONAL_ID_NOT_FOUND
        | ErrorCode::RESOURCE_NOT_FOUND
        | ErrorCode::BROKER_ID_NOT_REGISTERED => StatusCode::NOT_FOUND,
        ErrorCode::TOPIC_ALREADY_EXISTS
        | ErrorCode::NON_EMPTY_GROUP
        | ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC
        | ErrorCode::UNKNOWN_MEMBER_ID
        | ErrorCode::REASSIGNMENT_IN_PROGRESS
        | ErrorCode::NO_REASSIGNMENT_IN_PROGRESS
        | ErrorCode::CONCURRENT_TRANSACTIONS
        | ErrorCode::INVALID_TXN_STATE => StatusCode::CONFLICT,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED
        | ErrorCode::GROUP_AUTHORIZATION_FAILED
        | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
        | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        | ErrorCode::TOPIC_DELETION_DISABLED
        | ErrorCode::POLICY_VIOLATION => StatusCode::FORBIDDEN,
        ErrorCode::THROTTLING_QUOTA_EXCEEDED => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::UNSUPPORTED_VERSION => StatusCode::NOT_IMPLEMENTED,
        ErrorCode::REQUEST_TIMED_OUT => StatusCode::GATEWAY_TIMEOUT,
        ErrorCode::BROKER_NOT_AVAILABLE => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::UNKNOWN_SERVER_ERROR | ErrorCode::KAFKA_STORAGE_ERROR => StatusCode::INTERNAL_SERVER_ERROR,
        code if code.is_retriable() => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::BAD_REQUEST,
    }
}

/// What the document says of errors: every operation may answer with a problem.
pub(super) struct Failed;

impl IntoResponses for Failed {
    fn responses() -> BTreeMap<String, RefOr<DocumentedResponse>> {
        let content = Content::new(Some(Ref::from_schema_name("Problem")));
        let response =
            ResponseBuilder::new().description("What is wrong, and what to do").content(PROBLEM_JSON, content);
        BTreeMap::from([("default".to_owned(), RefOr::T(response.build()))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_statuses_and_stay_in_the_answer() {
        let refused = |code| Error::Refused { what: "topic 't'".to_owned(), code, message: None };
        for (code, status) in [
            (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, 404),
            (ErrorCode::TOPIC_ALREADY_EXISTS, 409),
            (ErrorCode::INVALID_PARTITIONS, 400),
            (ErrorCode::CLUSTER_AUTHORIZATION_FAILED, 403),
            (ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, 503),
            (ErrorCode::REQUEST_TIMED_OUT, 504),
            (ErrorCode::UNKNOWN_SERVER_ERROR, 500),
        ] {
            let problem = Problem::from(refused(code));
            assert_eq!((problem.status, problem.error_code), (status, Some(code.0)), "{problem:?}");
            assert_eq!(problem.error_name, Some(code.name()));
        }
        let last = Box::new(refused(ErrorCode::LEADER_NOT_AVAILABLE));
        let late = Error::TimedOut { what: "offsets".to_owned(), after: std::time::Duration::from_secs(1), last };
        let problem = Problem::from(late);
        assert_eq!((problem.status, problem.error_name), (504, Some("LEADER_NOT_AVAILABLE")));
    }

    #[test]
    fn a_problem_names_the_parts_that_failed() {
        assert!(Problem::of_parts(Vec::new()).is_none());
        let error = Error::Refused { what: "t-0".to_owned(), code: ErrorCode::REASSIGNMENT_IN_PROGRESS, message: None };
        let problem = Problem::of_parts(vec![("t-0".to_owned(), error)]).unwrap();
        let body: serde_json::Value = serde_json::to_value(&problem).unwrap();
        assert_eq!((&body["status"], &body["failures"][0]["name"]), (&409.into(), &"t-0".into()));
        assert_eq!(body["failures"][0]["error_name"], "REASSIGNMENT_IN_PROGRESS");
    }
}
