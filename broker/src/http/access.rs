//! Which requests `/v1` serves: HTTP has no authentication, so that changes are only for those that reach the loopback address, and web pages
//! of other sites are kept out.
//!
//! A page can send requests to this machine from a browser on it. Two rules stop it: a `Host` that is a name other than localhost is refused
//! on the loopback address (DNS rebinding needs such a name), and changes need a media type that browsers do not send to other sites
//! without a preflight request, which is never answered. `Origin` and `Sec-Fetch-Site` are checked besides.

use std::net::{IpAddr, SocketAddr};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};

use super::problem::Problem;
use crate::config::HttpChanges;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What is served at an address.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    is_loopback: bool,
    changes: HttpChanges,
}

impl Access {
    /// The access to an address under `http.changes`.
    pub fn new(address: SocketAddr, changes: HttpChanges) -> Self {
        Self { is_loopback: address.ip().to_canonical().is_loopback(), changes }
    }

    /// Refuses a request that is not served.
    pub(super) fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
        let host = host_of(headers)?;
        if self.is_loopback && !is_local(&host) {
            return Err(Problem::new(
                StatusCode::MISDIRECTED_REQUEST,
                format!("'{host}' is not a name of this listener: use localhost or the IP address"),
            ));
        }
        if matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return Ok(());
        }
        self.check_changes()?;
        check_site(headers, &host)?;
        // A DELETE has no body, and is never sent to another site without a preflight request.
        if *method == Method::DELETE || is_json(headers) {
            return Ok(());
        }
        Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "send JSON, with the header Content-Type: application/json",
        ))
    }

    fn check_changes(&self) -> Result<(), Problem> {
        let why = match self.changes {
            HttpChanges::Any => return Ok(()),
            HttpChanges::Loopback if self.is_loopback => return Ok(()),
            HttpChanges::Loopback => {
                "changes are served on a loopback address only, since HTTP has no authentication: use the `esker` command line, set \
                 http.listen to a loopback address, or allow them to all that reach this port with http.changes=any"
            }
            HttpChanges::None => "changes are not served: http.changes=none",
        };
        Err(Problem::new(StatusCode::FORBIDDEN, why))
    }
}

fn host_of(headers: &HeaderMap) -> Result<Authority, Problem> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| Authority::try_from(host.as_bytes()).ok());
    host.filter(|_| hosts.next().is_none())
        .ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, "the request needs one valid Host header"))
}

/// Whether no DNS server can have a say in where the name leads.
fn is_local(host: &Authority) -> bool {
    let name = host.host();
    let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    let lower = name.to_ascii_lowercase();
    address.parse::<IpAddr>().is_ok() || lower == "localhost" || lower.ends_with(".localhost")
}

/// Refuses changes that a browser sends for a page of another site.
fn check_site(headers: &HeaderMap, host: &Authority) -> Result<(), Problem> {
    let is_own = |origin: &str| {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_str())) && is_local(host)
    };
    let text = |name| headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default());
    let is_foreign_origin = text(header::ORIGIN).any(|origin| !is_own(origin));
    let is_foreign_site = text(SEC_FETCH_SITE).any(|site| !matches!(site, "same-origin" | "none"));
    if is_foreign_origin || is_foreign_site {
        return Err(Problem::new(StatusCode::FORBIDDEN, "changes are not served to pages of other sites"));
    }
    Ok(())
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: &str = "127.0.0.1:9644";
    const JSON: (&str, &str) = ("content-type", "application/json; charset=utf-8");

    fn status(listens: &str, changes: HttpChanges, method: &Method, fields: &[(&str, &str)]) -> u16 {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let access = Access::new(listens.parse().unwrap(), changes);
        let checked = access.check(method, &headers);
        checked
            .map_or_else(|problem| serde_json::to_value(&problem).unwrap()["status"].as_u64().unwrap() as u16, |()| 200)
    }

    #[test]
    fn names_are_refused_on_loopback() {
        let get = |listens: &str, host: &str| status(listens, HttpChanges::Loopback, &Method::GET, &[("host", host)]);
        for host in ["localhost:9644", "LOCALHOST", "a.localhost", "127.0.0.1:9644", "[::1]:9644", "10.0.0.1"] {
            assert_eq!(get(LOOPBACK, host), 200, "{host}");
        }
        for host in ["evil.example:9644", "localhost.evil.example", "127.0.0.1.evil.example"] {
            assert_eq!(get(LOOPBACK, host), 421, "{host}");
            assert_eq!(get("[::ffff:127.0.0.1]:9644", host), 421, "{host}");
            assert_eq!(get("0.0.0.0:9644", host), 200, "{host}");
        }
        assert_eq!(status(LOOPBACK, HttpChanges::Any, &Method::GET, &[]), 400);
        assert_eq!(status(LOOPBACK, HttpChanges::Any, &Method::GET, &[("host", "a"), ("host", "localhost")]), 400);
    }

    #[test]
    fn changes_are_for_loopback_unless_they_are_allowed() {
        for (listens, changes, expected) in [
            (LOOPBACK, HttpChanges::Loopback, 200),
            (LOOPBACK, HttpChanges::Any, 200),
            (LOOPBACK, HttpChanges::None, 403),
            ("0.0.0.0:9644", HttpChanges::Loopback, 403),
            ("10.0.0.1:9644", HttpChanges::Loopback, 403),
            ("0.0.0.0:9644", HttpChanges::Any, 200),
        ] {
            let fields = [("host", "127.0.0.1:9644"), JSON];
            assert_eq!(status(listens, changes, &Method::POST, &fields), expected, "{listens} {changes:?}");
        }
    }

    #[test]
    fn pages_of_other_sites_change_nothing() {
        let host = ("host", "localhost:9644");
        let change = |method: &Method, fields: &[(&str, &str)]| {
            status(LOOPBACK, HttpChanges::Loopback, method, &[&[host], fields].concat())
        };
        assert_eq!(change(&Method::POST, &[JSON]), 200);
        assert_eq!(change(&Method::POST, &[]), 415);
        assert_eq!(change(&Method::PATCH, &[("content-type", "text/plain")]), 415);
        assert_eq!(change(&Method::POST, &[("content-type", "text/plain;application/json")]), 415);
        assert_eq!(change(&Method::DELETE, &[]), 200);
        assert_eq!(change(&Method::POST, &[JSON, ("origin", "http://localhost:9644")]), 200);
        for origin in ["http://evil.example", "null", "http://localhost:9645", "localhost:9644"] {
            assert_eq!(change(&Method::DELETE, &[("origin", origin)]), 403, "{origin}");
        }
        for (site, expected) in [("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403)] {
            assert_eq!(change(&Method::DELETE, &[("sec-fetch-site", site)]), expected, "{site}");
        }
    }
}
