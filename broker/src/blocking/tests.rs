//! A disk that hangs under one partition: only its producers wait, and not for retention.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::alter_replica_log_dirs::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic, AlterReplicaLogDirsRequest,
};
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::records::BatchBuilder;
use esker_storage::hooked::{Doing, HookedDisk, Hooks};
use esker_storage::io::{Disk, Open};
use parking_lot::{Condvar, Mutex};

use crate::replica::TopicRef;
use crate::test_support::{Client, broker_on, create_topic_with};

/// How long the disk stands still at most, so that a test that fails comes to an end. The requests that are served meanwhile must take less,
/// however busy the machine is.
const AT_MOST: Duration = Duration::from_secs(600);

/// What stands still.
type Matches = fn(Doing<'_>) -> bool;

#[derive(Debug, Default)]
struct State {
    held: bool,
    waiting: usize,
    /// The time was over before the test opened it.
    late: bool,
}

/// What `matches` stands still while it is held.
#[derive(Debug)]
struct Hold {
    matches: Matches,
    state: Mutex<State>,
    moved: Condvar,
}

impl Hooks for Hold {
    fn before(&self, doing: Doing<'_>) -> io::Result<()> {
        if (self.matches)(doing) {
            let mut state = self.state.lock();
            state.waiting += 1;
            self.moved.notify_all();
            // No timer of the runtime: its threads may be the ones that stand still.
            if self.moved.wait_while_for(&mut state, |state| state.held, AT_MOST).timed_out() {
                (state.late, state.held) = (true, false);
                self.moved.notify_all();
            }
        }
        Ok(())
    }
}

impl Hold {
    fn new(matches: Matches) -> Arc<Self> {
        Arc::new(Self { matches, state: Mutex::default(), moved: Condvar::new() })
    }

    fn disk(self: &Arc<Self>) -> Arc<dyn Disk> {
        let hooks: Arc<dyn Hooks> = Arc::<Self>::clone(self);
        Arc::new(HookedDisk(hooks))
    }

    fn close(&self) {
        self.state.lock().held = true;
    }

    async fn is_reached(self: &Arc<Self>) {
        let hold = Arc::clone(self);
        let wait = move || hold.moved.wait_while(&mut hold.state.lock(), |state| state.waiting == 0);
        tokio::task::spawn_blocking(wait).await.unwrap();
    }

    /// True if no task had to wait for it until here.
    fn open(&self) -> bool {
        let mut state = self.state.lock();
        state.held = false;
        self.moved.notify_all();
        !state.late
    }
}

/// Two of them are more than a segment.
const LARGE: usize = 700_000;

fn produce(topic: &'static str, size: usize) -> ProduceRequest {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, 1_700_000_000_000, None, Some(&vec![7; size]), &[]);
    let data = PartitionProduceData { index: 0, records: Some(builder.build().unwrap()) };
    ProduceRequest {
        acks: 1,
        timeout_ms: 600_000,
        topic_data: vec![TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() }],
        ..ProduceRequest::default()
    }
}

/// Version of Produce spoken here.
const V: i16 = 9;

async fn produced(client: &mut Client, topic: &'static str, size: usize) {
    let answer = client.ask(V, &produce(topic, size)).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
}

async fn take_answer(client: &mut Client, case: &str) {
    let (_, answer) = client.answer::<ProduceRequest>(V).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::NONE, "{case}");
}

fn is_named(path: &Path, end: &str) -> bool {
    path.to_str().is_some_and(|path| path.ends_with(end))
}

/// More connections than the runtime has threads produce to `t`, whose disk stands still; others are served meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producers_of_a_partition_whose_disk_stands_still_hold_up_nobody_else() {
    let cases: [(&str, Matches); 3] = [
        ("move", |doing| matches!(doing, Doing::SyncDir(path) if is_named(path, "-future"))),
        ("roll", |doing| match doing {
            Doing::Open(path, Open::Empty) => is_named(path, ".log") && !is_named(path, "/00000000000000000000.log"),
            // Where its files were created ahead.
            Doing::Rename { to, .. } => is_named(to, ".log"),
            _ => false,
        }),
        ("retention", |doing| matches!(doing, Doing::Rename { to, .. } if is_named(to, ".deleted"))),
    ];
    for (case, matches) in cases {
        let dirs = tempfile::tempdir().unwrap();
        let (one, two) = (dirs.path().join("one"), dirs.path().join("two"));
        let hold = Hold::new(matches);
        let both = format!("{},{}", one.display(), two.display());
        let (running, _dir) = broker_on(hold.disk(), &[("log.dirs", &both), ("log.durability", "page-cache")]).await;
        let mut client = Client::to(&running).await;
        create_topic_with(&mut client, "t", &[("segment.bytes", "1048576")]).await;
        create_topic_with(&mut client, "other", &[]).await;
        produced(&mut client, "t", LARGE).await;
        if case == "retention" {
            produced(&mut client, "t", LARGE).await;
        }
        let partition = running.broker.replicas.partition(&TopicRef::Name("t".into()), 0).unwrap();
        let mut producers = Vec::new();
        for _ in 0..6 {
            producers.push(Client::to(&running).await);
        }
        let mut others = Vec::new();
        for _ in 0..4 {
            others.push(Client::to(&running).await);
        }
        hold.close();
        match case {
            "move" => {
                let log = partition.log();
                let to = if log.log_dir() == one { &two } else { &one };
                let topics = vec![AlterReplicaLogDirTopic { name: "t".into(), partitions: vec![0] }];
                let dirs = vec![AlterReplicaLogDir { path: to.display().to_string().into(), topics }];
                let answer = client.ask(2, &AlterReplicaLogDirsRequest { dirs }).await;
                assert_eq!(answer.results[0].partitions[0].error_code, ErrorCode::NONE);
                hold.is_reached().await;
            }
            "retention" => {
                let log = partition.log();
                log.advance_log_start(1).unwrap();
                tokio::task::spawn_blocking(move || log.retention_pass(0));
                hold.is_reached().await;
            }
            // The producers reach it themselves.
            _ => {}
        }
        for (id, client) in producers.iter_mut().enumerate() {
            client.send(V, id as i32, &produce("t", LARGE)).await;
        }
        hold.is_reached().await;
        // Retention holds up nobody at all.
        let mut answered = 0;
        while case == "retention" && answered < producers.len() {
            take_answer(&mut producers[answered], case).await;
            answered += 1;
        }
        for _ in 0..25 {
            for client in &mut others {
                client.lives().await;
                produced(client, "other", 100).await;
                assert!(partition.role().is_leader(), "a look at the role waits for nobody");
            }
        }
        assert!(hold.open(), "{case}: others were served only when the disk was");
        for client in &mut producers[answered..] {
            take_answer(client, case).await;
        }
        running.stop().await.unwrap();
    }
}
