//! Trace contexts (W3C Trace Context): which requests are traced, and the contexts that producers put into record headers.
//!
//! A `traceparent` header is looked for in batches that are not compressed, in the first bytes of each, and in the first batches of a
//! partition alone: the cost is bounded, whatever is produced. Sampling follows the producer, else a ratio.

use std::fmt;
use std::sync::LazyLock;

use memchr::memmem::Finder;

/// Bytes of a batch that are searched.
const MAX_SEARCHED: usize = 4096;
/// Batches of one partition that are searched.
const MAX_BATCHES: usize = 16;
/// Offsets in a batch: its length, its magic, its attributes; and what precedes its records.
const LENGTH_AT: usize = 8;
const MAGIC_AT: usize = 16;
const ATTRIBUTES_AT: usize = 21;
const RECORDS_AT: usize = 61;
/// Bytes before those that a batch's length counts.
const LENGTH_END: usize = 12;
/// Bits of the attributes that name a compression.
const COMPRESSION_BITS: u8 = 7;
/// A record header named `traceparent` with a value of 55 bytes: both lengths are zigzag varints.
const HEADER: &[u8] = b"\x16traceparent\x6e";
/// Characters of a `traceparent`.
const TEXT: usize = 55;

static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(HEADER));

/// A position in a trace: the trace, and a span of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace. Not 0.
    pub trace_id: u128,
    /// The span. Not 0.
    pub span_id: u64,
    /// Whether the trace is recorded.
    pub sampled: bool,
}

impl TraceContext {
    /// Parses the text of a `traceparent` header: `00-<trace id>-<span id>-<flags>` in hexadecimal digits.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() == TEXT)?;
        let mut parts = text.split('-');
        let version = parse_hex(parts.next()?, 2)?;
        let (trace_id, span_id) = (parse_hex(parts.next()?, 32)?, parse_hex(parts.next()?, 16)?);
        let flags = parse_hex(parts.next()?, 2)?;
        if version == 0xff || trace_id == 0 || span_id == 0 || parts.next().is_some() {
            return None;
        }
        Some(Self { trace_id, span_id: u64::try_from(span_id).ok()?, sampled: flags & 1 == 1 })
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

fn parse_hex(text: &str, digits: usize) -> Option<u128> {
    let is_hex = text.len() == digits && text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
    is_hex.then(|| u128::from_str_radix(text, 16).ok())?
}

/// The context of the first record of a batch that has one, among the first bytes of a batch that is not compressed.
fn find_in_batch(batch: &[u8]) -> Option<TraceContext> {
    let is_compressed = batch.get(ATTRIBUTES_AT + 1)? & COMPRESSION_BITS != 0;
    if *batch.get(MAGIC_AT)? != 2 || is_compressed {
        return None;
    }
    let searched = batch.get(RECORDS_AT..batch.len().min(MAX_SEARCHED))?;
    let value = FINDER.find(searched)? + HEADER.len();
    TraceContext::parse(searched.get(value..value + TEXT)?)
}

/// The contexts of sampled traces in record batches, each once, in their order.
pub fn find_contexts(mut records: &[u8]) -> Vec<TraceContext> {
    let mut found = Vec::new();
    for _ in 0..MAX_BATCHES {
        let length = records.get(LENGTH_AT..LENGTH_END).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes);
        let Some(length) = length.and_then(|length| usize::try_from(length).ok()) else { break };
        let end = LENGTH_END.saturating_add(length).min(records.len());
        let (batch, rest) = records.split_at(end);
        if let Some(context) = find_in_batch(batch).filter(|context| context.sampled && !found.contains(context)) {
            found.push(context);
        }
        records = rest;
    }
    found
}

/// Which requests without a producer's context are traced.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleRatio(f64);

impl SampleRatio {
    /// From 0, none, to 1, all.
    pub fn new(ratio: f64) -> Self {
        Self(ratio.clamp(0.0, 1.0))
    }

    /// Whether a request with this random number is traced.
    pub fn samples(self, random: u64) -> bool {
        self.0 >= 1.0 || (random as f64) < self.0 * 2.0_f64.powi(64)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use esker_protocol::compression::Compression;
    use esker_protocol::records::{BatchBuilder, RecordHeader};

    use super::*;

    const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn batch(codec: Compression, before: usize, headers: &[(&str, &str)]) -> Bytes {
        let mut builder = BatchBuilder::new(codec);
        builder.append(0, 1, None, Some(&vec![7; before]), &[]);
        let headers: Vec<_> =
            headers.iter().map(|(key, value)| RecordHeader::new(key, Some(value.as_bytes()))).collect();
        builder.append(1, 1, Some(b"k"), Some(b"v"), &headers);
        builder.build().unwrap()
    }

    #[test]
    fn a_traceparent_is_parsed_as_w3c_says() {
        let context = TraceContext::parse(TRACEPARENT.as_bytes()).unwrap();
        assert_eq!(context.to_string(), TRACEPARENT);
        assert!(context.sampled);
        for (text, valid) in [
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", true),
            ("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-09", true),
            ("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false),
            ("00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319cb7ad6b7169203331--01", false),
            ("00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1", false),
            ("", false),
        ] {
            assert_eq!(TraceContext::parse(text.as_bytes()).is_some(), valid, "{text}");
        }
    }

    #[test]
    fn contexts_are_found_within_the_bounds() {
        let header = ("traceparent", TRACEPARENT);
        let unsampled = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00");
        let other = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let expected = TraceContext::parse(TRACEPARENT.as_bytes()).unwrap();
        let found = find_contexts(&batch(Compression::None, 0, &[("a", "b"), header]));
        assert_eq!(found, [expected]);
        assert_eq!(find_contexts(&batch(Compression::None, 3000, &[header])), [expected]);
        assert_eq!(find_contexts(&batch(Compression::None, 5000, &[header])), []);
        assert_eq!(find_contexts(&batch(Compression::Lz4, 0, &[header])), []);
        assert_eq!(find_contexts(&batch(Compression::None, 0, &[unsampled])), []);
        assert_eq!(find_contexts(&batch(Compression::None, 0, &[("xtraceparent", TRACEPARENT)])), []);
        let many = [
            batch(Compression::None, 0, &[header]),
            batch(Compression::Lz4, 0, &[header]),
            batch(Compression::None, 0, &[header]),
            batch(Compression::None, 0, &[("traceparent", other)]),
        ];
        assert_eq!(find_contexts(&many.concat()).len(), 2);
        let far = [vec![batch(Compression::None, 0, &[]); 16], vec![batch(Compression::None, 0, &[header])]].concat();
        assert_eq!(find_contexts(&far.concat()), []);
    }

    #[test]
    fn bytes_that_are_no_batches() {
        let whole = batch(Compression::None, 0, &[("traceparent", TRACEPARENT)]);
        for end in 0..whole.len() {
            let _ = find_contexts(&whole[..end]);
        }
        let _ = find_contexts(&[0xff; 100]);
        let _ = find_contexts(&[0; 1000]);
    }

    #[test]
    fn the_ratio_is_kept() {
        assert!(SampleRatio::new(1.0).samples(u64::MAX));
        assert!(!SampleRatio::new(0.0).samples(0));
        assert!(SampleRatio::new(0.5).samples(u64::MAX / 2 - 10_000));
        assert!(!SampleRatio::new(0.5).samples(u64::MAX / 2 + 10_000));
    }
}
