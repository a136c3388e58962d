//! A client of the cluster: one connection to each node, one request at a time, each with a deadline.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use esker_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use esker_protocol::{Request, decode_response, encode_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::model::Model;
use super::net::{Net, clients, nodes};
use crate::network::End;
use crate::rng::Rng;
use crate::trace::Trace;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What all clients and the world share.
#[derive(Clone)]
pub struct Lab {
    pub net: Net,
    pub trace: Trace,
    pub rng: Arc<Mutex<Rng>>,
    pub model: Arc<Mutex<Model>>,
    pub origin: Instant,
    /// Of Produce requests: -1, or 1 where that fault is planted.
    pub acks: i16,
}

impl Lab {
    /// Milliseconds of the run so far.
    pub fn ms(&self) -> i64 {
        self.origin.elapsed().as_millis() as i64
    }

    pub fn note(&self, what: &str) {
        self.trace.note(self.ms(), what);
    }

    pub async fn pause(&self, most_ms: i64) {
        let ms = self.rng.lock().unwrap().between(1, most_ms) as u64;
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    pub fn below(&self, bound: usize) -> usize {
        self.rng.lock().unwrap().below(bound)
    }

    pub fn violated(&self, what: String) {
        self.note(&format!("VIOLATION {what}"));
        self.model.lock().unwrap().violated(what);
    }
}

/// See the module.
pub struct Client {
    pub lab: Lab,
    name: String,
    ends: Vec<Option<End>>,
    next_id: i32,
    leaders: BTreeMap<(&'static str, i32), usize>,
}

impl Client {
    pub fn new(lab: &Lab, name: impl Into<String>) -> Self {
        Self {
            lab: lab.clone(),
            name: name.into(),
            ends: (0..nodes()).map(|_| None).collect(),
            next_id: 0,
            leaders: BTreeMap::new(),
        }
    }

    pub fn note(&self, what: &str) {
        self.lab.note(&format!("{} <- {what}", self.name));
    }

    /// The answer of `node`; `None` if the connection broke or the deadline passed.
    pub async fn ask<R: Request>(&mut self, node: usize, version: i16, request: &R, what: &str) -> Option<R::Response> {
        self.lab.note(&format!("{} -> {node} {what}", self.name));
        let answered = tokio::time::timeout(PATIENCE, self.exchange(node, version, request)).await.ok().flatten();
        if answered.is_none() {
            self.ends[node] = None;
            self.note("nothing");
        }
        answered
    }

    async fn exchange<R: Request>(&mut self, node: usize, version: i16, request: &R) -> Option<R::Response> {
        self.next_id += 1;
        let frame = encode_request(version, self.next_id, Some("simulated".into()), request).unwrap().into_bytes();
        if self.ends[node].is_none() {
            self.ends[node] = Some(self.lab.net.connect(clients(), node).await.ok()?);
        }
        let end = self.ends[node].as_mut()?;
        end.write_all(&frame).await.ok()?;
        let size = end.read_i32().await.ok()?;
        let mut frame = vec![0; usize::try_from(size).unwrap()];
        end.read_exact(&mut frame).await.ok()?;
        let (id, answer) = decode_response::<R>(version, Bytes::from(frame)).unwrap();
        assert_eq!(id, self.next_id);
        Some(answer)
    }

    /// The leader of a partition, as some node says. Forgotten with [`Self::forget`].
    pub async fn leader(&mut self, topic: &'static str, partition: usize) -> Option<usize> {
        let key = (topic, partition as i32);
        if let Some(leader) = self.leaders.get(&key) {
            return Some(*leader);
        }
        let node = self.lab.below(nodes());
        let wanted = MetadataRequestTopic { name: Some(topic.into()), ..MetadataRequestTopic::default() };
        let request = MetadataRequest { topics: Some(vec![wanted]), ..MetadataRequest::default() };
        let answer = self.ask(node, 9, &request, &format!("Metadata {topic}")).await?;
        let found = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let leader = found.filter(|found| found.partition_index == key.1).map(|found| found.leader_id).next()?;
        self.note(&format!("leader of {topic}-{partition} is {leader}"));
        let leader = usize::try_from(leader - 1).ok()?;
        self.leaders.insert(key, leader);
        Some(leader)
    }

    pub fn forget(&mut self, topic: &'static str, partition: usize) {
        self.leaders.remove(&(topic, partition as i32));
    }
}
