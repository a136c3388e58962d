//! The tracer: which requests are traced, the spans of these, and the queue of spans that ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use esker_core::trace::{SampleRatio, TraceContext, find_contexts};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::span::{AttributeValue, FinishedSpan, SpanKind};

/// Spans that wait for the exporter. Beyond that they are dropped.
const QUEUE: usize = 4096;
/// Links of a span; more are left out.
const MAX_LINKS: usize = 16;
/// Attributes of a span; more are left out.
const MAX_ATTRIBUTES: usize = 32;
/// The step of the generator of ids (SplitMix64): each of 2^64 states comes once.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Spans since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TracerCounts {
    /// Spans that ended.
    pub ended: u64,
    /// Of these, those that found the queue full, or that the endpoint did not take.
    pub dropped: u64,
    /// Of these, those that the endpoint took.
    pub exported: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Tracer {
    ratio: SampleRatio,
    random: AtomicU64,
    queue: mpsc::Sender<FinishedSpan>,
    /// The other end of the queue, until an exporter takes it.
    ended: Mutex<Option<mpsc::Receiver<FinishedSpan>>>,
    counts: [AtomicU64; 3],
}

impl Tracer {
    /// Traces requests by `ratio`; `seed` is random.
    pub fn new(ratio: SampleRatio, seed: u64) -> Self {
        let (queue, ended) = mpsc::channel(QUEUE);
        Self { ratio, random: AtomicU64::new(seed), queue, ended: Mutex::new(Some(ended)), counts: Default::default() }
    }

    /// The spans that end from here on; `None` for all but the first caller.
    pub fn take_ended(&self) -> Option<mpsc::Receiver<FinishedSpan>> {
        self.ended.lock().take()
    }

    /// A span of a request that came at `start`, if it is sampled.
    pub fn sample(self: &Arc<Self>, name: &'static str, kind: SpanKind, start: Instant) -> Option<Span> {
        self.ratio.samples(self.next_random()).then(|| self.begin_span(None, name, kind, start))
    }

    /// A span that is part of another, or the first of its trace.
    pub fn begin_span(
        self: &Arc<Self>,
        parent: Option<TraceContext>,
        name: &'static str,
        kind: SpanKind,
        start: Instant,
    ) -> Span {
        let new_trace = || u128::from(self.next_id()) << 64 | u128::from(self.next_id());
        let context = TraceContext {
            trace_id: parent.map_or_else(new_trace, |parent| parent.trace_id),
            span_id: self.next_id(),
            sampled: true,
        };
        let data = FinishedSpan {
            context,
            parent: parent.map(|parent| parent.span_id),
            name,
            kind,
            start,
            end: start,
            attributes: Vec::new(),
            links: Vec::new(),
            failed: false,
        };
        Span::new(self, data)
    }

    /// Sampled traces that record batches are part of.
    pub fn contexts_of(&self, records: &[u8]) -> Vec<TraceContext> {
        find_contexts(records)
    }

    /// Counts spans that left the queue.
    pub fn record_export(&self, spans: u64, taken: bool) {
        let [_, dropped, exported] = &self.counts;
        (if taken { exported } else { dropped }).fetch_add(spans, Ordering::Relaxed);
    }

    /// Counts since the start.
    pub fn counts(&self) -> TracerCounts {
        let [ended, dropped, exported] = &self.counts;
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        TracerCounts { ended: load(ended), dropped: load(dropped), exported: load(exported) }
    }

    fn finish(&self, span: FinishedSpan) {
        let [ended, dropped, _] = &self.counts;
        ended.fetch_add(1, Ordering::Relaxed);
        if self.queue.try_send(span).is_err() {
            dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// SplitMix64: no lock and no system call for a request.
    fn next_random(&self) -> u64 {
        let mut z = self.random.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An id, which is not 0.
    fn next_id(&self) -> u64 {
        self.next_random().max(1)
    }
}

/// A span, from its creation to its end, which is when its last handle is dropped.
#[derive(Debug)]
pub struct Span {
    tracer: Arc<Tracer>,
    data: Mutex<FinishedSpan>,
}

impl Span {
    fn new(tracer: &Arc<Tracer>, data: FinishedSpan) -> Self {
        Self { tracer: Arc::clone(tracer), data: Mutex::new(data) }
    }

    /// Its trace and its id, for what is part of it.
    pub fn context(&self) -> TraceContext {
        self.data.lock().context
    }

    /// It is part of another process's trace. Before it has parts of its own alone.
    pub fn set_parent(&self, parent: TraceContext) {
        let mut data = self.data.lock();
        data.context.trace_id = parent.trace_id;
        data.parent = Some(parent.span_id);
    }

    /// It has to do with another trace.
    pub fn add_link(&self, other: TraceContext) {
        let mut data = self.data.lock();
        if data.links.len() < MAX_LINKS && !data.links.contains(&other) {
            data.links.push(other);
        }
    }

    /// More about it.
    pub fn add_attribute(&self, name: &'static str, value: impl Into<AttributeValue>) {
        let mut data = self.data.lock();
        if data.attributes.len() < MAX_ATTRIBUTES {
            data.attributes.push((name, value.into()));
        }
    }

    /// It failed.
    pub fn set_failed(&self) {
        self.data.lock().failed = true;
    }

    /// A part of it that begins now.
    pub fn begin_part(&self, name: &'static str) -> Self {
        self.tracer.begin_span(Some(self.context()), name, SpanKind::Internal, Instant::now())
    }

    /// A span of the log: lines within it carry the ids of the trace and of this span.
    pub fn log_span(&self) -> tracing::Span {
        let context = self.context();
        let (trace_id, span_id) = (format!("{:032x}", context.trace_id), format!("{:016x}", context.span_id));
        tracing::info_span!("request", trace_id, span_id)
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let mut data = self.data.get_mut().clone();
        data.end = Instant::now();
        self.tracer.finish(data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_ends_with_its_last_handle_and_a_full_queue_drops() {
        let tracer = Arc::new(Tracer::new(SampleRatio::new(1.0), 7));
        let start = Instant::now();
        let request = tracer.sample("Produce", SpanKind::Server, start).unwrap();
        let client = TraceContext { trace_id: 5, span_id: 6, sampled: true };
        request.set_parent(client);
        let part = request.begin_part("append");
        drop(part);
        request.add_link(client);
        request.add_link(client);
        request.add_attribute("a", 1_i64);
        request.add_attribute("b", "ä".repeat(1000).as_str());
        let own = request.context();
        let shared = Arc::new(request);
        drop(Arc::clone(&shared));
        let mut ended = tracer.take_ended().unwrap();
        assert!(tracer.take_ended().is_none());
        let part = ended.try_recv().unwrap();
        assert_eq!((part.name, part.parent, part.context.trace_id), ("append", Some(own.span_id), 5));
        assert!(ended.try_recv().is_err());
        drop(shared);
        let request = ended.try_recv().unwrap();
        assert_eq!((request.parent, request.context, request.links.len()), (Some(6), own, 1));
        assert_eq!(request.attributes, [("a", 1_i64.into()), ("b", "ä".repeat(128).as_str().into())]);
        assert!(request.end >= request.start && request.start == start);
        for _ in 0..QUEUE + 3 {
            drop(tracer.begin_span(None, "x", SpanKind::Internal, start));
        }
        assert_eq!(tracer.counts(), TracerCounts { ended: QUEUE as u64 + 5, dropped: 3, exported: 0 });
    }

    #[test]
    fn nothing_is_sampled_at_0() {
        let tracer = Arc::new(Tracer::new(SampleRatio::new(0.0), 7));
        assert!((0..1000).all(|_| tracer.sample("x", SpanKind::Server, Instant::now()).is_none()));
    }
}
