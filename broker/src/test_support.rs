//! For tests: a whole broker in a folder of its own, and a client that speaks to it over a real socket.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::api_versions::ApiVersionsRequest;
use esker_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use esker_protocol::{Request, decode_response, encode_request};
use esker_storage::io::{Disk, OsDisk};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::config::{BrokerConfig, Origin, Sources};
use crate::node::{Environment, Machine, Node};
use crate::serve::{self, Running};

/// The wall clock in ms.
pub(crate) fn now_ms() -> i64 {
    Machine::default().now_ms()
}

/// A node with the built-in configuration.
pub(crate) fn node() -> Node {
    Node::new(BrokerConfig::resolve(&Sources::default()).unwrap(), Arc::new(Machine::default()))
}

/// A broker in a folder that goes with it.
pub(crate) async fn broker(settings: &[(&str, &str)]) -> (Running, TempDir) {
    broker_on(Arc::new(OsDisk), settings).await
}

/// The same, on another disk.
pub(crate) async fn broker_on(disk: Arc<dyn Disk>, settings: &[(&str, &str)]) -> (Running, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (broker_in(dir.path(), disk, settings).await, dir)
}

/// The same, in a folder that may have been another's before.
pub(crate) async fn broker_in(dir: &Path, disk: Arc<dyn Disk>, settings: &[(&str, &str)]) -> Running {
    let mut sources = Sources::default();
    sources.set(Origin::Flag("--set"), "log.dirs", dir.to_str().unwrap());
    sources.set(Origin::Flag("--set"), "listeners", "PLAINTEXT://127.0.0.1:0");
    sources.set(Origin::Flag("--set"), "http.listen", "127.0.0.1:0");
    settings.iter().for_each(|(name, value)| sources.set(Origin::Flag("--set"), name, value));
    let config = BrokerConfig::resolve(&sources).unwrap();
    serve::start_on(disk, config).await.unwrap()
}

/// A client that speaks one request at a time, or several.
pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    pub(crate) async fn to(running: &Running) -> Self {
        Self(TcpStream::connect(running.kafka).await.unwrap())
    }

    /// How many bytes it was.
    pub(crate) async fn send<R: Request>(&mut self, version: i16, id: i32, request: &R) -> u64 {
        let frame = encode_request(version, id, Some("test".into()), request).unwrap().into_bytes();
        self.0.write_all(&frame).await.unwrap();
        frame.len() as u64
    }

    /// The next answer's frame; `None` when the connection is closed.
    pub(crate) async fn frame(&mut self) -> Option<Bytes> {
        let size = self.0.read_i32().await.ok()?;
        let mut frame = vec![0; usize::try_from(size).unwrap()];
        self.0.read_exact(&mut frame).await.ok()?;
        Some(frame.into())
    }

    pub(crate) async fn answer<R: Request>(&mut self, version: i16) -> (i32, R::Response) {
        decode_response::<R>(version, self.frame().await.expect("the connection is closed")).unwrap()
    }

    pub(crate) async fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, 7, request).await;
        let (id, answer) = self.answer::<R>(version).await;
        assert_eq!(id, 7);
        answer
    }

    pub(crate) async fn lives(&mut self) {
        assert_eq!(self.ask(0, &ApiVersionsRequest::default()).await.error_code, ErrorCode::NONE);
    }
}

/// Creates topic `t` with one partition.
pub(crate) async fn create_topic(client: &mut Client) {
    create_topic_with(client, "t", &[]).await;
}

/// Creates a topic with one partition.
pub(crate) async fn create_topic_with(
    client: &mut Client,
    name: &'static str,
    configs: &[(&'static str, &'static str)],
) {
    let config = |(name, value): &(&'static str, &'static str)| CreatableTopicConfig {
        name: (*name).into(),
        value: Some((*value).into()),
    };
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: 1,
        replication_factor: 1,
        configs: configs.iter().map(config).collect(),
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, ..CreateTopicsRequest::default() };
    assert_eq!(client.ask(4, &request).await.topics[0].error_code, ErrorCode::NONE);
}
