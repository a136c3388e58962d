//! What an incremental fetch costs: CPU of the broker for each, with few and many partitions in the session, one of them
//! active.
//!
//! Two rows for each size of a session. `ready`: the fetch finds records of the active partition and is answered at once.
//! `waits`: the fetch parks at the end of all partitions; one produce to the active one then answers it (the produce's own
//! cost is in the figure). Binaries are measured in turn, and figures are medians over rounds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;
use esker_benches::broker::Broker;
use esker_benches::client::Connection;
use esker_benches::{Result, process, sample_batch};
use esker_protocol::compression::Compression;
use esker_protocol::encode_request;
use esker_protocol::messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};

/// Measures the CPU of incremental fetches.
#[derive(Parser, Debug)]
struct Options {
    /// An esker binary; several are measured in turn.
    #[arg(long, required = true)]
    esker: Vec<PathBuf>,
    /// Partitions in a session.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 10_000])]
    partitions: Vec<i32>,
    /// Times that each binary is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds for each figure.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Folder for the data; a new folder in it is used, and removed at the end.
    #[arg(long)]
    dir: PathBuf,
}

const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 12;
const TOPIC: &str = "t";
const ROWS: [&str; 2] = ["ready", "waits"];

/// CPU microseconds of a fetch: by partitions, row and binary, one for each round.
type Figures = BTreeMap<(i32, &'static str, usize), Vec<f64>>;

fn main() -> std::process::ExitCode {
    let options = Options::parse();
    let dir = options.dir.join(format!("esker-fetch-sessions-{}", std::process::id()));
    let result = run(&options, &dir);
    let _ = std::fs::remove_dir_all(&dir);
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(options: &Options, dir: &Path) -> Result<()> {
    let mut figures = Figures::new();
    for _ in 0..options.rounds {
        for (binary, path) in options.esker.iter().enumerate() {
            let broker = Broker::start(path, &dir.join(binary.to_string()))?;
            let most = options.partitions.iter().copied().max().unwrap_or(1);
            let mut client = Connection::open(broker.address)?;
            create_topic(&mut client, most)?;
            produce(&mut client)?;
            for partitions in &options.partitions {
                for row in ROWS {
                    let cost = measure(options, &broker, *partitions, row == "waits")?;
                    figures.entry((*partitions, row, binary)).or_default().push(cost);
                }
            }
        }
    }
    println!("CPU of the broker for each incremental fetch, in microseconds; median of {} round(s)\n", options.rounds);
    let names: Vec<_> = options.esker.iter().map(|path| path.display().to_string()).collect();
    println!("| partitions | row | {} |\n|---|---|{}", names.join(" | "), "---|".repeat(names.len()));
    for partitions in &options.partitions {
        for row in ROWS {
            let cells = (0..names.len()).map(|binary| median(figures.get(&(*partitions, row, binary))));
            println!(
                "| {partitions} | {row} | {} |",
                cells.map(|cost| format!("{cost:.1}")).collect::<Vec<_>>().join(" | ")
            );
        }
    }
    Ok(())
}

fn median(figures: Option<&Vec<f64>>) -> f64 {
    let mut sorted = figures.cloned().unwrap_or_default();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn create_topic(client: &mut Connection, partitions: i32) -> Result<()> {
    let topic = CreatableTopic {
        name: TOPIC.into(),
        num_partitions: partitions,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    // The topic of an earlier round is there still.
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 60_000, ..CreateTopicsRequest::default() };
    client.call(4, &request)?;
    Ok(())
}

/// One small batch to the active partition; returns its offset.
fn produce(client: &mut Connection) -> Result<i64> {
    let (batch, _) = sample_batch(Compression::None, 100, 200, 1)?;
    let data = PartitionProduceData { index: 0, records: Some(batch) };
    let topic = TopicProduceData { name: TOPIC.into(), partition_data: vec![data], ..TopicProduceData::default() };
    let request = ProduceRequest { acks: 1, timeout_ms: 60_000, topic_data: vec![topic], ..ProduceRequest::default() };
    let answer = client.call(PRODUCE_VERSION, &request)?;
    let partition = answer.responses.first().and_then(|topic| topic.partition_responses.first());
    Ok(partition.filter(|data| !data.error_code.is_error()).ok_or("a produce failed")?.base_offset)
}

fn wanted(partition: i32, fetch_offset: i64) -> FetchPartition {
    FetchPartition { partition, fetch_offset, partition_max_bytes: 1 << 10, ..FetchPartition::default() }
}

fn fetch(id: i32, epoch: i32, max_wait_ms: i32, partitions: Vec<FetchPartition>) -> FetchRequest {
    let topic = FetchTopic { topic: TOPIC.into(), partitions, ..FetchTopic::default() };
    let topics = if topic.partitions.is_empty() { Vec::new() } else { vec![topic] };
    FetchRequest { session_id: id, session_epoch: epoch, max_wait_ms, min_bytes: 1, topics, ..FetchRequest::default() }
}

/// CPU microseconds of one fetch in a session of `partitions`.
fn measure(options: &Options, broker: &Broker, partitions: i32, waits: bool) -> Result<f64> {
    let (mut consumer, mut producer) = (Connection::open(broker.address)?, Connection::open(broker.address)?);
    let mut end = produce(&mut producer)?;
    let from = |partition| wanted(partition, if partition == 0 { end } else { 0 });
    let opened = consumer.call(FETCH_VERSION, &fetch(0, 0, 0, (0..partitions).map(from).collect()))?;
    let id = opened.session_id;
    if id == 0 {
        return Err("no session".into());
    }
    end = produce(&mut producer)?;
    // Until what is known of all partitions has been told.
    for epoch in 1..4 {
        consumer.call(FETCH_VERSION, &fetch(id, epoch, 0, vec![wanted(0, end)]))?;
    }
    let (began, cpu, mut fetches) = (Instant::now(), process::cpu_seconds(broker.pid())?, 0);
    let time = Duration::from_secs_f64(options.seconds);
    while began.elapsed() < time {
        let epoch = fetches + 4;
        let found = if waits {
            let request = fetch(id, epoch, 60_000, vec![wanted(0, end + 1)]);
            let frame = encode_request(FETCH_VERSION, 0, None, &request)?.into_bytes();
            consumer.send(&frame)?;
            // Time to park; it costs the broker nothing.
            std::thread::sleep(Duration::from_millis(2));
            end = produce(&mut producer)?;
            consumer.receive(|frame| Ok(esker_protocol::decode_response::<FetchRequest>(FETCH_VERSION, frame)?.1))?
        } else {
            consumer.call(FETCH_VERSION, &fetch(id, epoch, 0, Vec::new()))?
        };
        let data: Vec<_> = found.responses.iter().flat_map(|topic| &topic.partitions).collect();
        let [data] = data.as_slice() else { return Err(format!("{} partitions in an answer", data.len()).into()) };
        if data.records.as_ref().is_none_or(|records| records.is_empty()) {
            return Err("an answer without records".into());
        }
        fetches += 1;
    }
    let used = process::cpu_seconds(broker.pid())? - cpu;
    consumer.call(FETCH_VERSION, &fetch(id, -1, 0, Vec::new()))?;
    Ok(used * 1e6 / f64::from(fetches))
}
