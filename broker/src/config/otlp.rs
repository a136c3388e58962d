//! `otlp.endpoint`: where traces, and metrics that clients push, are exported to.

use std::str::FromStr;

use thiserror::Error;

/// `otlp.endpoint`: `http://host:port`, maybe with a path before `/v1/traces` and `/v1/metrics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpEndpoint {
    authority: String,
    path: String,
}

impl OtlpEndpoint {
    /// `host:port`.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// What is before `/v1/traces`; empty, or a path that begins with `/`.
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// What an endpoint must be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("http://host:port is needed (OTLP over HTTP, without TLS), e.g. http://127.0.0.1:4318")]
pub struct InvalidEndpoint;

impl FromStr for OtlpEndpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let rest = text.strip_prefix("http://").ok_or(InvalidEndpoint)?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = authority.rsplit_once(':').ok_or(InvalidEndpoint)?;
        let is_valid = !host.is_empty()
            && port.parse::<u16>().is_ok_and(|port| port > 0)
            && rest.bytes().all(|c| c.is_ascii_graphic() && !b"?#@\"<>".contains(&c));
        let path = path.trim_end_matches('/');
        let path = if path.is_empty() { String::new() } else { format!("/{path}") };
        is_valid.then(|| Self { authority: authority.to_owned(), path }).ok_or(InvalidEndpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_parsed() {
        let parsed = |text: &str| text.parse::<OtlpEndpoint>().map(|endpoint| (endpoint.authority, endpoint.path));
        let is = |authority: &str, path: &str| Ok((authority.to_owned(), path.to_owned()));
        assert_eq!(parsed("http://127.0.0.1:4318"), is("127.0.0.1:4318", ""));
        assert_eq!(parsed("http://collector:4318/"), is("collector:4318", ""));
        assert_eq!(parsed("http://[::1]:4318/otlp/"), is("[::1]:4318", "/otlp"));
        for text in [
            "",
            "127.0.0.1:4318",
            "https://a:1",
            "http://a",
            "http://a:0",
            "http://:1",
            "http://a:1/?x",
            "http://a:1/ x",
        ] {
            assert_eq!(parsed(text), Err(InvalidEndpoint), "{text}");
        }
    }
}
