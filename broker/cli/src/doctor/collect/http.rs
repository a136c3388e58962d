//! What the HTTP port of a node returns with /metrics: the time in the Date header, and the metrics of its process.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::facts::{Fact, HttpFacts, NodeFacts};
use esker_records::times::{now, parse_http_date};

/// The longest answer that is read.
const ANSWER_BYTES: u64 = 64 << 20;
/// The Date header has whole seconds.
const SECOND_MS: i64 = 1000;

/// Asks each node.
pub(super) async fn ask_nodes(addresses: &[String], patience: Duration) -> Vec<NodeFacts> {
    let one = |address: &String| {
        let address = address.clone();
        async move {
            let asked = timeout(patience, ask(&address)).await;
            let answer = asked.unwrap_or_else(|_| Err(format!("no answer within {patience:?}")));
            NodeFacts { address, answer }
        }
    };
    join_all(addresses.iter().map(one)).await
}

async fn ask(address: &str) -> Fact<HttpFacts> {
    let mut stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let before = now();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = vec![0; 4096];
    let read = stream.read(&mut answer).await.map_err(|error| error.to_string())?;
    let after = now();
    answer.truncate(read);
    stream.take(ANSWER_BYTES).read_to_end(&mut answer).await.map_err(|error| error.to_string())?;
    read_answer(&String::from_utf8_lossy(&answer), before, after)
}

/// The facts in an answer to a request that was sent at `before` and answered at `after`.
fn read_answer(answer: &str, before: i64, after: i64) -> Fact<HttpFacts> {
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("it is no HTTP server")?;
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if status != "200" {
        return Err(format!("it answers /metrics with status {status}"));
    }
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("date").then(|| value.trim().to_owned())
    };
    let date = head.lines().find_map(header).and_then(|text| parse_http_date(&text));
    let metric = |name: &str| {
        let value = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.split_whitespace().next());
        value.and_then(|value| value.parse().ok())
    };
    Ok(HttpFacts {
        // The node's clock was within the second of the header at some moment between the two times.
        clock_ahead_ms: date
            .map(|date| (date.saturating_sub(after), date.saturating_add(SECOND_MS).saturating_sub(before))),
        open_files: metric("process_open_fds"),
        max_files: metric("process_max_fds"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_and_the_files_are_read() {
        let answer = "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:10 GMT\r\n\r\n# HELP x y\nprocess_open_fds 12\nprocess_max_fds 1e3\n";
        let facts = read_answer(answer, 9_500, 9_600).unwrap();
        assert_eq!(facts.clock_ahead_ms, Some((400, 1500)));
        assert_eq!((facts.open_files, facts.max_files), (Some(12.0), Some(1000.0)));
        let facts = read_answer("HTTP/1.1 200 OK\r\n\r\n", 0, 0).unwrap();
        assert_eq!(facts, HttpFacts::default());
        assert!(read_answer("HTTP/1.1 404 Not Found\r\n\r\n", 0, 0).unwrap_err().contains("404"));
        assert!(read_answer("SSH-2.0", 0, 0).is_err());
    }
}
