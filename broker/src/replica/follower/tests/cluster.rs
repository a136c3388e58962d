//! Brokers in one process with one image and links in memory. The image changes by the controller's own rules; who gets it, and which links
//! are cut, is the test's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use esker_core::controller::{ElectionRules, alter_partition};
use esker_core::metadata::{BrokerRecord, ConfigRecord, MetadataImage, MetadataRecord, PartitionRecord, TopicRecord};
use esker_core::replication::wire::ReplicaFetchRequest;
use esker_protocol::Message;
use esker_protocol::compression::Compression;
use esker_protocol::messages::alter_partition::{AlterPartitionRequest, AlterPartitionResponse};
use esker_protocol::messages::fetch::FetchResponse;
use esker_protocol::primitives::{Reader, Uuid, Writer};
use esker_protocol::records::{Batch, BatchBuilder};
use esker_storage::Origin as AppendOrigin;
use esker_storage::io::OsDisk;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::super::{FollowerFetchers, LeaderLink, LeaderLinks, LinkError};
use crate::config::{BrokerConfig, Origin, Sources};
use crate::controller::SubmitError;
use crate::handlers::handler::{RequestContext, Staged};
use crate::handlers::peer::replica_fetch;
use crate::node::{Machine, Node};
use crate::replica::isr::{IsrManager, IsrProposer};
use crate::replica::manager::TopicRef;
use crate::replica::partition::{Guarantee, Partition, PendingCommit};
use crate::replica::purgatory::CommitGate;
use crate::serve::embedded::Embedded;
use crate::server::ConnectionInfo;

pub(super) const TOPIC: Uuid = Uuid([7; 16]);
const CLIENT: AppendOrigin = AppendOrigin::Client { transaction_v2: false };

/// One broker and its replication.
struct Member {
    embedded: Embedded,
    tasks: Vec<JoinHandle<()>>,
    _dir: TempDir,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// What the links and the brokers share.
pub(super) struct Net {
    members: Mutex<BTreeMap<i32, Member>>,
    image: Mutex<MetadataImage>,
    /// Links that are cut, as (from, to).
    cut: watch::Sender<BTreeSet<(i32, i32)>>,
    /// Brokers that get no image.
    deaf: Mutex<BTreeSet<i32>>,
    /// Requests of followers, as (follower, partitions with their offsets).
    pub(super) requests: Mutex<Vec<(i32, Vec<i64>)>>,
    /// What they may bring, as (partition, bytes).
    pub(super) limits: Mutex<Vec<(i32, i32)>>,
    pub(super) proposals: Mutex<Vec<Vec<i32>>>,
}

struct Link {
    net: Weak<Net>,
    from: i32,
    to: i32,
}

fn over_the_wire<M: Message>(message: &M) -> M {
    let mut writer = Writer::new();
    message.encode(&mut writer, 17).unwrap();
    M::decode(&mut Reader::new(writer.finish().into_bytes()), 17).unwrap()
}

impl LeaderLink for Link {
    fn fetch(
        &self,
        request: ReplicaFetchRequest,
        _timeout: Duration,
    ) -> BoxFuture<'static, Result<FetchResponse, LinkError>> {
        let (net, way) = (self.net.clone(), (self.from, self.to));
        async move {
            let closed = || LinkError::Closed("cut".to_owned());
            let net = net.upgrade().ok_or_else(closed)?;
            let mut cut = net.cut.subscribe();
            if cut.borrow().contains(&way) {
                return Err(LinkError::Unreachable("cut".to_owned()));
            }
            let offsets = request.topics.iter().flat_map(|topic| topic.partitions.iter().map(|p| p.fetch_offset));
            net.requests.lock().push((way.0, offsets.collect()));
            let limits = request.topics.iter().flat_map(|topic| topic.partitions.iter());
            net.limits.lock().extend(limits.map(|p| (p.partition, p.partition_max_bytes)));
            let ctx = net.context(way.1).ok_or_else(closed)?;
            let answer = match replica_fetch(ctx, over_the_wire(&request)) {
                Staged::Ready(answer) => answer,
                Staged::Later(answer) | Staged::Parked(_, answer) => tokio::select! {
                    biased;
                    _ = cut.wait_for(|cut| cut.contains(&way)) => return Err(closed()),
                    answer = answer => answer,
                },
                _ => panic!("no answer"),
            };
            // It may have been cut since the request began.
            if cut.borrow().contains(&way) { Err(closed()) } else { Ok(over_the_wire(&answer)) }
        }
        .boxed()
    }
}

struct Links(Weak<Net>, i32);

impl LeaderLinks for Links {
    fn to(&self, node_id: i32) -> Option<Arc<dyn LeaderLink>> {
        Some(Arc::new(Link { net: self.0.clone(), from: self.1, to: node_id }))
    }
}

struct Proposer(Weak<Net>);

impl IsrProposer for Proposer {
    fn alter_partition(
        &self,
        request: AlterPartitionRequest,
    ) -> BoxFuture<'_, Result<AlterPartitionResponse, SubmitError>> {
        let net = self.0.clone();
        async move {
            let net = net.upgrade().ok_or(SubmitError::Stopping)?;
            let statics = Default::default();
            let decision = {
                let image = net.image.lock();
                alter_partition(&image, ElectionRules { node_id: 1, statics: &statics }, &request)
            };
            for partition in request.topics.iter().flat_map(|topic| &topic.partitions) {
                let isr = partition.new_isr_with_epochs.iter().map(|state| state.broker_id).collect();
                net.proposals.lock().push(isr);
            }
            net.change(&decision.records).await;
            Ok(decision.reply)
        }
        .boxed()
    }
}

impl Net {
    fn context(&self, to: i32) -> Option<RequestContext> {
        let broker = Arc::clone(&self.members.lock().get(&to)?.embedded.broker);
        let info = ConnectionInfo::new(SocketAddr::from(([127, 0, 0, 1], 1)), "PLAINTEXT".into());
        Some(RequestContext {
            broker,
            connection: Arc::new(info),
            client_id: None,
            api_version: 17,
            arrival: crate::telemetry::Arrival::at(Instant::now(), 0),
            routes: &[],
            trace: None,
        })
    }

    /// Changes the metadata; every broker that is not deaf has it when this returns.
    pub(super) async fn change(&self, records: &[MetadataRecord]) {
        let image = {
            let mut image = self.image.lock();
            records.iter().for_each(|record| image.apply(record));
            let offset = image.offset().max(1000) + 1;
            image.set_offset(offset);
            image.clone()
        };
        self.spread(Arc::new(image)).await;
    }

    async fn spread(&self, image: Arc<MetadataImage>) {
        let deaf = self.deaf.lock().clone();
        let members: Vec<_> = {
            let members = self.members.lock();
            let hearing = members.iter().filter(|(id, _)| !deaf.contains(id));
            hearing.map(|(_, member)| Arc::clone(&member.embedded.broker)).collect()
        };
        for broker in members {
            let (replicas, image) = (Arc::clone(&broker.replicas), Arc::clone(&image));
            broker.node.run_blocking(move || replicas.apply(&image)).await.unwrap();
        }
    }

    pub(super) fn cut(&self, a: i32, b: i32) {
        self.cut.send_modify(|cut| cut.extend([(a, b), (b, a)]));
    }

    pub(super) fn heal(&self) {
        self.cut.send_modify(BTreeSet::clear);
    }

    pub(super) fn deafen(&self, id: i32) {
        self.deaf.lock().insert(id);
    }

    pub(super) async fn undeafen(&self) {
        self.deaf.lock().clear();
        let image = Arc::new(self.image.lock().clone());
        self.spread(image).await;
    }

    pub(super) fn partition(&self, broker: i32, index: i32) -> Arc<Partition> {
        let broker = Arc::clone(&self.members.lock()[&broker].embedded.broker);
        broker.replicas.partition(&TopicRef::Id(TOPIC), index).unwrap()
    }

    pub(super) fn context_of(&self, broker: i32) -> RequestContext {
        self.context(broker).unwrap()
    }

    pub(super) fn isr(&self) -> Vec<i32> {
        let image = self.image.lock();
        image.topic("t").unwrap().partitions.first().unwrap().isr.clone()
    }
}

/// Brokers 1 to `count` without topics.
pub(super) async fn cluster(count: i32, settings: &[(&str, &str)]) -> Arc<Net> {
    let net = Arc::new(Net {
        members: Mutex::default(),
        image: Mutex::default(),
        cut: watch::Sender::default(),
        deaf: Mutex::default(),
        requests: Mutex::default(),
        limits: Mutex::default(),
        proposals: Mutex::default(),
    });
    for id in 1..=count {
        let member = start(&net, id, settings).await;
        net.members.lock().insert(id, member);
    }
    let brokers = (1..=count).map(|node_id| {
        MetadataRecord::Broker(BrokerRecord { node_id, epoch: i64::from(node_id) * 10, ..BrokerRecord::default() })
    });
    net.change(&brokers.collect::<Vec<_>>()).await;
    net
}

async fn start(net: &Arc<Net>, id: i32, settings: &[(&str, &str)]) -> Member {
    let dir = tempfile::tempdir().unwrap();
    let mut sources = Sources::default();
    let mut set = |name: &str, value: &str| sources.set(Origin::Flag("--set"), name, value);
    set("log.dirs", dir.path().to_str().unwrap());
    set("node.id", &id.to_string());
    settings.iter().for_each(|(name, value)| set(name, value));
    let node = Node::new(BrokerConfig::resolve(&sources).unwrap(), Arc::new(Machine::default()));
    let address = SocketAddr::from(([127, 0, 0, 1], 9092));
    let embedded = Embedded::start(node.clone(), Arc::new(OsDisk), address).await.unwrap();
    let replicas = &embedded.broker.replicas;
    let links = Arc::new(Links(Arc::downgrade(net), id));
    let proposer = Arc::new(Proposer(Arc::downgrade(net)));
    let fetchers = FollowerFetchers::new(node.clone(), Arc::clone(replicas), links);
    let isr = IsrManager::new(node, Arc::clone(replicas), proposer);
    Member { tasks: vec![tokio::spawn(fetchers.run()), tokio::spawn(isr.run())], embedded, _dir: dir }
}

pub(super) fn topic(configs: &[(&'static str, &'static str)]) -> Vec<MetadataRecord> {
    let mut records = vec![MetadataRecord::Topic(TopicRecord { name: "t".into(), id: TOPIC })];
    records.extend(configs.iter().map(|(name, value)| {
        MetadataRecord::Config(ConfigRecord {
            resource_type: 2,
            resource_name: "t".into(),
            name: (*name).into(),
            value: Some((*value).into()),
        })
    }));
    records
}

/// A partition of `t`; partition and leader epoch are as given.
pub(super) fn partition(
    index: i32,
    replicas: &[i32],
    isr: &[i32],
    (leader, leader_epoch): (i32, i32),
) -> MetadataRecord {
    MetadataRecord::Partition(PartitionRecord {
        topic_id: TOPIC,
        partition: index,
        replicas: replicas.to_vec(),
        isr: isr.to_vec(),
        leader,
        leader_epoch,
        partition_epoch: leader_epoch * 100,
        ..PartitionRecord::default()
    })
}

pub(super) fn records(count: i32, fill: u8) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for number in 0..count {
        builder.append(number, 1_700_000_000_000, None, Some(&[fill; 100]), &[]);
    }
    builder.build().unwrap()
}

/// Appends a batch as leader with `acks=all`.
pub(super) fn produce(partition: &Arc<Partition>, batch: Bytes) -> (Arc<CommitGate>, PendingCommit) {
    let leader_epoch = partition.role().leading_epoch().unwrap();
    let (batch, _) = Batch::parse(batch).unwrap();
    let appended = partition.append(&batch.header, &batch.bytes, CLIENT, true, 1_700_000_000_000).unwrap();
    let gate = CommitGate::new(1);
    let guarantee = Guarantee { committed: true, on_disk: true };
    let pending = partition.park_commit(guarantee, appended.last_offset + 1, leader_epoch, &gate);
    (gate, pending)
}

pub(super) async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..60_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it never comes: {what}");
}

/// The bytes of a whole log.
pub(super) fn bytes_of(partition: &Partition) -> (i64, i64, Bytes) {
    let log = partition.log();
    let (start, end) = (log.log_start_offset(), log.log_end_offset());
    // A read ends with its segment.
    let (mut at, mut bytes) = (start, Vec::new());
    while at < end {
        let read = log.read(at, usize::MAX, end, true).unwrap();
        bytes.extend_from_slice(&read.records);
        at = read.next_offset;
    }
    (start, end, bytes.into())
}
