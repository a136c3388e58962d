//! A client's connection: one request at a time, each with a deadline in virtual time.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use esker_broker::node::Node;
use esker_broker::serve::embedded::Embedded;
use esker_protocol::{Request, decode_response, encode_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::network::{End, connection};
use crate::rng::Rng;
use crate::trace::Trace;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What clients share in one life of the broker.
#[derive(Clone)]
pub struct Lab {
    pub broker: Arc<Embedded>,
    pub node: Node,
    pub trace: Trace,
    pub rng: Arc<Mutex<Rng>>,
}

impl Lab {
    pub fn note(&self, what: &str) {
        self.trace.note(self.node.now_ms(), what);
    }

    /// Pauses a client for up to `most_ms`.
    pub async fn pause(&self, most_ms: i64) {
        let ms = self.rng.lock().unwrap().between(1, most_ms) as u64;
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    pub fn below(&self, bound: usize) -> usize {
        self.rng.lock().unwrap().below(bound)
    }
}

/// See the module.
pub struct Client {
    lab: Lab,
    name: String,
    end: Option<End>,
    next_id: i32,
}

impl Client {
    pub fn new(lab: &Lab, name: impl Into<String>) -> Self {
        Self { lab: lab.clone(), name: name.into(), end: None, next_id: 0 }
    }

    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The answer; `None` if the connection broke or the deadline passed. The next request gets a new connection then.
    pub async fn ask<R: Request>(&mut self, version: i16, request: &R, what: &str) -> Option<R::Response> {
        self.lab.note(&format!("{} -> {what}", self.name));
        let answered = tokio::time::timeout(PATIENCE, self.exchange(version, request)).await.ok().flatten();
        if answered.is_none() {
            self.end = None;
            self.lab.note(&format!("{} <- nothing", self.name));
        }
        answered
    }

    pub fn note(&self, what: &str) {
        self.lab.note(&format!("{} <- {what}", self.name));
    }

    async fn exchange<R: Request>(&mut self, version: i16, request: &R) -> Option<R::Response> {
        self.next_id += 1;
        let frame = encode_request(version, self.next_id, Some("simulated".into()), request).unwrap().into_bytes();
        let lab = &self.lab;
        let end = self.end.get_or_insert_with(|| {
            let (own, served) = connection(&mut lab.rng.lock().unwrap());
            let serving = lab.broker.serve(served, SocketAddr::from(([10, 0, 0, 1], 1)));
            tokio::spawn(async move { drop(serving.await) });
            own
        });
        end.write_all(&frame).await.ok()?;
        let size = end.read_i32().await.ok()?;
        let mut frame = vec![0; usize::try_from(size).unwrap()];
        end.read_exact(&mut frame).await.ok()?;
        let (id, answer) = decode_response::<R>(version, Bytes::from(frame)).unwrap();
        assert_eq!(id, self.next_id);
        Some(answer)
    }
}
