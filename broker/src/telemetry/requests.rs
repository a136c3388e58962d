//! Requests by API: how many, how long each phase took, which errors.
//!
//! A request is read (it may wait behind others of its connection: queue), its stage one runs (local), its answer may wait for other brokers, the
//! disk or more records (remote), the answer may wait for those before it (response queue), and goes to the socket (send). Each worker records
//! into its own copy; a scrape folds them. Clock reads: one when stage one begins, one when it ends without an answer, one when the answer is
//! ready; the times of reads and writes of the socket are those that the connection has anyway.

use std::ops::RangeInclusive;
use std::time::Duration;

use esker_protocol::api::ApiKey;
use esker_protocol::error::ErrorCode;
use parking_lot::Mutex;
use prometheus::core::{AtomicU64, GenericLocalCounter};
use prometheus::local::LocalHistogram;
use prometheus::{Error, IntCounterVec};
use tokio::time::Instant;

use super::counters::CounterSet;
use super::durations::{History, MS, Recorded, micros};
use super::page::{Kind, Page};
use super::shards::Shards;

/// An API and the versions of it that are served.
#[derive(Debug, Clone)]
pub struct ServedApi {
    /// The API.
    pub key: ApiKey,
    /// What Kafka's metrics call it.
    pub name: &'static str,
    /// The versions.
    pub versions: RangeInclusive<i16>,
}

/// How a request came.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// When its last bytes, or those of a request behind it, were read.
    pub read: Instant,
    /// When its stage one began.
    pub begun: Instant,
    /// Its bytes.
    pub bytes: usize,
}

impl Arrival {
    /// Of a request that was read when it began.
    pub fn at(begun: Instant, bytes: usize) -> Self {
        Self { read: begun, begun, bytes }
    }
}

/// A request whose answer is ready to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    key: ApiKey,
    /// When the answer was ready.
    pub ready: Instant,
    /// What the request took until then.
    before: Duration,
}

/// Seconds; from far below a millisecond to the longest polls.
const BUCKETS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Bounds of the buckets of `esker_request_phase_seconds`, µs.
const PHASE_BOUNDS: [u64; 10] =
    [1 << 6, 1 << 8, 1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24];

/// What is recorded of each request.
#[derive(Debug, Clone, Copy)]
enum Part {
    Queue,
    Local,
    Remote,
    ResponseQueue,
    Send,
    Total,
    Bytes,
}

const PARTS: usize = 7;

/// The summaries that Kafka has, with the part that each shows. Requests are not throttled.
const SUMMARIES: [(&str, Option<Part>, &str); 8] = [
    ("totaltimems", Some(Part::Total), "From a request read to its answer sent, ms"),
    ("requestqueuetimems", Some(Part::Queue), "Time that a request waits behind others of its connection, ms"),
    ("localtimems", Some(Part::Local), "Time that the request takes on its worker, ms"),
    ("remotetimems", Some(Part::Remote), "Time that an answer waits for other brokers, the disk, or records, ms"),
    ("throttletimems", None, "Time that an answer is held back by a quota, ms"),
    ("responsequeuetimems", Some(Part::ResponseQueue), "Time that an answer waits for those before it, ms"),
    ("responsesendtimems", Some(Part::Send), "Time that it takes to hand an answer to the kernel, ms"),
    ("requestbytes", Some(Part::Bytes), "Sizes of requests, bytes"),
];

/// The phases of `esker_request_phase_seconds`.
const PHASES: [(&str, Option<Part>); 6] = [
    ("queue", Some(Part::Queue)),
    ("local", Some(Part::Local)),
    ("remote", Some(Part::Remote)),
    ("throttle", None),
    ("response_queue", Some(Part::ResponseQueue)),
    ("send", Some(Part::Send)),
];

type LocalCounter = GenericLocalCounter<AtomicU64>;
type Parts = Box<[Recorded; PARTS]>;

/// What was counted of an API since the last scrape.
#[derive(Debug)]
struct Local {
    first_version: i16,
    /// By version, from the first.
    counts: Vec<LocalCounter>,
    latency: LocalHistogram,
    without_error: LocalCounter,
    /// Made by the first request: most APIs have none on most workers.
    parts: Option<Parts>,
    /// Answers that became ready, and answers that left.
    answered: u64,
    sent: u64,
}

impl Local {
    fn parts(&mut self) -> &mut [Recorded; PARTS] {
        self.parts.get_or_insert_default()
    }

    fn fold(&mut self, history: &mut Option<Box<[History; PARTS]>>, now: Instant) {
        self.counts.iter().for_each(LocalCounter::flush);
        self.latency.flush();
        self.without_error.flush();
        if let Some(parts) = &mut self.parts {
            let history = history.get_or_insert_with(|| Box::new(std::array::from_fn(|_| History::new(now))));
            history.iter_mut().zip(parts.iter_mut()).for_each(|(history, part)| history.fold(part, now));
        }
    }
}

#[derive(Debug)]
struct Api {
    name: &'static str,
    shards: Shards<Local>,
    history: Mutex<Option<Box<[History; PARTS]>>>,
}

/// Counters of requests.
#[derive(Debug)]
pub struct RequestMetrics {
    /// By [`place_of`].
    apis: Vec<Option<Api>>,
    errors: IntCounterVec,
    /// Answers that became ready, and answers that left, as of the last scrape.
    answers: Mutex<(u64, u64)>,
}

/// Where an API is: those between nodes, whose keys begin at 32000, come behind Kafka's.
fn place_of(key: ApiKey) -> Option<usize> {
    match key.0 {
        key @ 0..256 => usize::try_from(key).ok(),
        key @ 32_000..32_064 => usize::try_from(key - 32_000).ok().map(|key| 256 + key),
        _ => None,
    }
}

impl RequestMetrics {
    pub(super) fn new(set: &CounterSet, served: impl Iterator<Item = ServedApi>) -> Result<Self, Error> {
        let help = "Requests answered, by API and version";
        let count = set.counters("kafka_network_requestmetrics_requests_total", help, &["request", "version"])?;
        let help = "From a request read to its answer ready, by API";
        let latency = set.histograms("esker_request_duration_seconds", help, &["request"], BUCKETS)?;
        let help = "Errors in answers, by API and error; NONE is an answer without any";
        let errors = set.counters("kafka_network_requestmetrics_errors_total", help, &["request", "error"])?;
        let mut apis: Vec<Option<Api>> = Vec::new();
        for ServedApi { key, name, versions } in served {
            let Some(at) = place_of(key) else { continue };
            if apis.len() <= at {
                apis.resize_with(at + 1, || None);
            }
            let of_version = |version: i16| count.with_label_values(&[name, &version.to_string()]);
            let first_version = *versions.start();
            let counts: Vec<_> = versions.map(of_version).collect();
            let latency = latency.with_label_values(&[name]);
            let without_error = errors.with_label_values(&[name, ErrorCode::NONE.name()]);
            let shards = Shards::new(|| Local {
                first_version,
                counts: counts.iter().map(prometheus::IntCounter::local).collect(),
                latency: latency.local(),
                without_error: without_error.local(),
                parts: None,
                answered: 0,
                sent: 0,
            });
            if let Some(place) = apis.get_mut(at) {
                *place = Some(Api { name, shards, history: Mutex::default() });
            }
        }
        Ok(Self { apis, errors, answers: Mutex::default() })
    }

    fn api(&self, key: ApiKey) -> Option<&Api> {
        self.apis.get(place_of(key)?)?.as_ref()
    }

    /// An answer is ready, or the request wants none. `staged` is when stage one ended, if that was before.
    pub fn answered(
        &self,
        api: (ApiKey, i16),
        arrival: Arrival,
        staged: Option<Instant>,
        errors: &[ErrorCode],
    ) -> Answered {
        self.answered_at(Instant::now(), api, arrival, staged, errors)
    }

    fn answered_at(
        &self,
        ready: Instant,
        (key, version): (ApiKey, i16),
        arrival: Arrival,
        staged: Option<Instant>,
        errors: &[ErrorCode],
    ) -> Answered {
        let queue = arrival.begun.saturating_duration_since(arrival.read);
        let took = ready.saturating_duration_since(arrival.begun);
        let answered = Answered { key, ready, before: queue + took };
        let Some(api) = self.api(key) else { return answered };
        if let Some(mut local) = api.shards.local() {
            let at = usize::try_from(version.saturating_sub(local.first_version)).ok();
            if let Some(count) = at.and_then(|at| local.counts.get(at)) {
                count.inc();
            }
            local.latency.observe(took.as_secs_f64());
            if errors.is_empty() {
                local.without_error.inc();
            }
            let on_worker = staged.map_or(took, |staged| staged.saturating_duration_since(arrival.begun));
            local.answered += 1;
            let [queues, locals, remotes, .., sizes] = local.parts();
            queues.add(micros(queue));
            locals.add(micros(on_worker));
            remotes.add(micros(took.saturating_sub(on_worker)));
            sizes.add(arrival.bytes as u64);
        }
        for error in errors {
            self.errors.with_label_values(&[api.name, error.name()]).inc();
        }
        answered
    }

    /// A request without an answer ended.
    pub fn ended_without_answer(&self, answered: Answered) {
        self.sent(answered, answered.ready, answered.ready);
    }

    /// An answer, which was the next to be sent at `turn`, is with the kernel at `sent`.
    pub fn sent(&self, answered: Answered, turn: Instant, sent: Instant) {
        let Some(mut local) = self.api(answered.key).and_then(|api| api.shards.local()) else { return };
        let total = answered.before + sent.saturating_duration_since(answered.ready);
        local.sent += 1;
        let [_, _, _, queues, sends, totals, _] = local.parts();
        queues.add(micros(turn.saturating_duration_since(answered.ready)));
        sends.add(micros(sent.saturating_duration_since(turn)));
        totals.add(micros(total));
    }

    /// Adds to the counters what came since the last time.
    pub(super) fn fold(&self, now: Instant) {
        let mut answers = self.answers.lock();
        for api in self.apis.iter().flatten() {
            let mut history = api.history.lock();
            api.shards.for_each(|local| {
                answers.0 += std::mem::take(&mut local.answered);
                answers.1 += std::mem::take(&mut local.sent);
                local.fold(&mut history, now);
            });
        }
    }

    /// Answers that were ready and not with the kernel at the last scrape.
    pub fn unsent(&self) -> u64 {
        let (answered, sent) = *self.answers.lock();
        answered.saturating_sub(sent)
    }

    /// Writes the phases. APIs without a request have no rows.
    pub(super) fn write(&self, page: &mut Page, now: Instant) {
        for (name, part, help) in SUMMARIES {
            let name = format!("kafka_network_requestmetrics_{name}");
            let mut rows = page.family(&name, Kind::Summary, &["request"], help);
            let unit = if matches!(part, Some(Part::Bytes)) { 1.0 } else { MS };
            self.each(|name, history| {
                let Some(of_part) = part_of(history, part) else {
                    let nothing = History::new(now);
                    let count = part_of(history, Some(Part::Total)).map_or(0, History::count);
                    return nothing.write_summary_as(&mut rows, &[name], unit, now, count);
                };
                of_part.write_summary(&mut rows, &[name], unit, now);
            });
        }
        let help = "How long each phase of a request took; the sum of a request's phases is its total time";
        let mut rows = page.family("esker_request_phase_seconds", Kind::Histogram, &["request", "phase"], help);
        self.each(|name, history| {
            // Kafka's two names for one API.
            if name == "FetchConsumer" {
                return;
            }
            for (phase, part) in PHASES {
                if let Some(history) = part_of(history, part) {
                    history.write_buckets(&mut rows, &[name, phase], &PHASE_BOUNDS);
                }
            }
        });
    }

    /// Each API that has requests. Fetch is what consumers send: followers have an API of their own.
    fn each(&self, mut look: impl FnMut(&str, &[History; PARTS])) {
        for api in self.apis.iter().flatten() {
            if let Some(history) = api.history.lock().as_ref() {
                look(api.name, history);
                if api.name == "Fetch" {
                    look("FetchConsumer", history);
                }
            }
        }
    }
}

fn part_of(history: &[History; PARTS], part: Option<Part>) -> Option<&History> {
    history.get(part? as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_add_up_to_the_total() {
        let set = CounterSet::default();
        let fetch = ServedApi { key: ApiKey::FETCH, name: "Fetch", versions: 4..=17 };
        let metrics = RequestMetrics::new(&set, std::iter::once(fetch)).unwrap();
        let read = Instant::now() - Duration::from_millis(300);
        let arrival = Arrival { read, begun: read + Duration::from_millis(100), bytes: 77 };
        let staged = arrival.begun + Duration::from_millis(50);
        let ready = staged + Duration::from_millis(150);
        let answered = metrics.answered_at(ready, (ApiKey::FETCH, 12), arrival, Some(staged), &[]);
        let turn = answered.ready + Duration::from_millis(20);
        metrics.sent(answered, turn, turn + Duration::from_millis(30));
        let now = Instant::now();
        metrics.fold(now);
        let mut page = Page::new(false);
        metrics.write(&mut page, now);
        set.write(&mut page);
        let text = String::from_utf8(page.finish().unwrap()).unwrap();
        let value = |row: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(row)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {row} in {text}")).parse::<f64>().unwrap()
        };
        for request in ["Fetch", "FetchConsumer"] {
            let half = |name: &str| {
                value(&format!("kafka_network_requestmetrics_{name}{{request=\"{request}\",quantile=\"0.50\"}}"))
            };
            for (name, ms) in [
                ("requestqueuetimems", 100.0),
                ("localtimems", 50.0),
                ("remotetimems", 150.0),
                ("responsequeuetimems", 20.0),
                ("responsesendtimems", 30.0),
                ("totaltimems", 350.0),
                ("throttletimems", 0.0),
                ("requestbytes", 77.0),
            ] {
                let found = half(name);
                assert!((ms..=ms * 1.3).contains(&found), "{name}: {found}");
            }
            let count = value(&format!("kafka_network_requestmetrics_totaltimems_count{{request=\"{request}\"}}"));
            assert_eq!(count, 1.0);
        }
        let sum =
            |phase: &str| value(&format!("esker_request_phase_seconds_sum{{request=\"Fetch\",phase=\"{phase}\"}}"));
        let all: f64 = ["queue", "local", "remote", "response_queue", "send"].map(sum).iter().sum();
        assert!((all - 0.35).abs() < 1e-9, "{all}");
        assert_eq!(value("kafka_network_requestmetrics_requests_total{request=\"Fetch\",version=\"12\"}"), 1.0);
    }
}
