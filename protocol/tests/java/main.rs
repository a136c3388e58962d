//! Our bytes against those of Kafka's own generated classes, for every API and version, both ways; run by
//! `tests/run compat/kafka-messages`, which has Java beside it. Two files go back and forth, a line a message:
//! `message NAME VERSION RAW CANONICAL`, or `request`, `response` with an API key for whole frames. RAW may hold tagged fields that
//! are unknown, or that hold their default; CANONICAL is what one writes after reading it, and both must agree on that.
//!
//! - `ESKER_JAVA_WRITE` names the file to make: random values, in each version `ESKER_JAVA_MESSAGES` (default 20) times.
//! - `ESKER_JAVA_READ` names a file that Java has made: read and written again, it must be the same bytes.

// Helpers of a test are not inside `#[test]`, where clippy allows these by itself.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic)]

#[macro_use]
#[path = "../shared/apis.rs"]
mod apis;
#[path = "../shared/generate.rs"]
mod generate;
#[path = "../shared/random.rs"]
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use bytes::Bytes;
use esker_protocol::api::ApiKey;
use esker_protocol::messages::consumer_protocol::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use esker_protocol::messages::internal::{GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, OffsetCommitValue};
use esker_protocol::messages::*;
use esker_protocol::primitives::{Reader, Str, Writer};
use esker_protocol::{Message, Request, RequestHeader, encode_request, encode_response};

use generate::generate;
use random::Random;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Bytes {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// Reads all of `bytes`.
fn decode<M: Message>(bytes: Bytes, version: i16) -> Result<M, String> {
    let mut r = Reader::new(bytes);
    let message = M::decode(&mut r, version).map_err(|error| error.to_string())?;
    if r.remaining() > 0 { Err(format!("{} bytes are left", r.remaining())) } else { Ok(message) }
}

fn encode<M: Message>(message: &M, version: i16) -> Result<Bytes, String> {
    let mut w = Writer::new();
    message.encode(&mut w, version).map_err(|error| error.to_string())?;
    Ok(w.finish().into_bytes())
}

/// The file that is made.
struct Out {
    random: Random,
    lines: String,
    times: usize,
}

impl Out {
    fn line(&mut self, kind: &str, name: &str, version: i16, raw: &[u8], canonical: &[u8]) {
        // A file has no empty words.
        writeln!(self.lines, "{kind} {name} {version} x{} x{}", hex(raw), hex(canonical)).unwrap();
    }

    /// Random messages in every version; `frame` makes a frame of the last of each.
    fn messages<M: Message>(&mut self, mut frame: impl FnMut(&mut Self, i16, &M)) {
        for version in M::SCHEMA.versions.first..=M::SCHEMA.versions.last {
            let mut last = M::default();
            for _ in 0..self.times {
                let raw = generate::<M>(&mut self.random, version);
                last = decode(raw.clone(), version).unwrap();
                self.line("message", M::SCHEMA.name, version, &raw, &encode(&last, version).unwrap());
            }
            frame(self, version, &last);
        }
    }
}

fn make<R: Request>(out: &mut Out) {
    out.messages::<R>(|out, version, request| {
        let client = [None, Some(Str::from("")), Some(Str::from("ein Gerät 🦀"))][out.random.below(3)].clone();
        let frame = encode_request(version, out.random.next() as i32, client, request).unwrap().into_bytes();
        out.line("request", &R::KEY.0.to_string(), version, &frame, &frame);
    });
    out.messages::<R::Response>(|out, version, response| {
        let frame = encode_response(R::KEY, version, out.random.next() as i32, response).unwrap().into_bytes();
        out.line("response", &R::KEY.0.to_string(), version, &frame, &frame);
    });
}

/// A record of `__consumer_offsets` as it is written there, behind its type or version.
fn record(out: &mut Out, name: &str, bytes: Bytes) {
    let version = i16::from_be_bytes([bytes[0], bytes[1]]);
    out.line("record", name, version, &bytes, &bytes);
}

const MAKERS: &[fn(&mut Out)] = &for_every_request!(make);

#[test]
fn write_for_java() {
    let Some(path) = std::env::var_os("ESKER_JAVA_WRITE") else {
        return eprintln!("ESKER_JAVA_WRITE is not set: nothing to write");
    };
    let times = std::env::var("ESKER_JAVA_MESSAGES").map_or(20, |times| times.parse().unwrap());
    let mut out = Out { random: Random::new(7), lines: String::new(), times };
    MAKERS.iter().for_each(|make| make(&mut out));
    out.messages::<ConsumerProtocolSubscription>(|_, _, _| ());
    out.messages::<ConsumerProtocolAssignment>(|_, _, _| ());
    out.messages::<OffsetCommitKey>(|out, _, key| record(out, "OffsetCommitKey", key.to_bytes().unwrap()));
    out.messages::<OffsetCommitValue>(|out, _, value| record(out, "OffsetCommitValue", value.to_bytes().unwrap()));
    out.messages::<GroupMetadataKey>(|out, _, key| record(out, "GroupMetadataKey", key.to_bytes().unwrap()));
    out.messages::<GroupMetadataValue>(|out, _, value| record(out, "GroupMetadataValue", value.to_bytes().unwrap()));
    println!("{} APIs, {} messages written for Java", MAKERS.len(), out.lines.lines().count());
    std::fs::write(path, out.lines).unwrap();
}

/// What is checked of one line: its bytes read and written again.
type Check = fn(Bytes, i16) -> Result<Bytes, String>;

fn message<M: Message>(bytes: Bytes, version: i16) -> Result<Bytes, String> {
    encode(&decode::<M>(bytes, version)?, version)
}

fn header(r: &mut Reader) -> Result<RequestHeader, String> {
    r.take(4).and_then(|_| RequestHeader::decode(r)).map_err(|error| error.to_string())
}

fn request<R: Request>(frame: Bytes, version: i16) -> Result<Bytes, String> {
    let mut r = Reader::new(frame);
    let header = header(&mut r)?;
    if (header.api_key, header.api_version) != (R::KEY, version) {
        return Err(format!("its header says {header:?}"));
    }
    let request = decode::<R>(r.rest(), version)?;
    let frame = encode_request(version, header.correlation_id, header.client_id, &request);
    frame.map(|frame| frame.into_bytes()).map_err(|error| error.to_string())
}

fn response<R: Request>(frame: Bytes, version: i16) -> Result<Bytes, String> {
    let (id, _) = esker_protocol::decode_response::<R>(version, frame.slice(4..)).map_err(|error| error.to_string())?;
    // The header by hand, so that bytes behind the body are seen.
    let mut r = Reader::new(frame.slice(8..));
    if R::KEY.response_header_version(version) == 1 {
        r.skip_tags().map_err(|error| error.to_string())?;
    }
    let response = decode::<R::Response>(r.rest(), version)?;
    let frame = encode_response(R::KEY, version, id, &response);
    frame.map(|frame| frame.into_bytes()).map_err(|error| error.to_string())
}

fn checks<R: Request>() -> (ApiKey, &'static str, &'static str, [Check; 4]) {
    let all: [Check; 4] = [message::<R>, message::<R::Response>, request::<R>, response::<R>];
    (R::KEY, R::SCHEMA.name, R::Response::SCHEMA.name, all)
}

fn every_check() -> BTreeMap<(String, String), Check> {
    let mut map = BTreeMap::new();
    for describe in for_every_request!(checks) {
        let (key, request_name, response_name, [request, response, request_frame, response_frame]) = describe();
        map.insert(("message".to_owned(), request_name.to_owned()), request);
        map.insert(("message".to_owned(), response_name.to_owned()), response);
        map.insert(("request".to_owned(), key.0.to_string()), request_frame);
        map.insert(("response".to_owned(), key.0.to_string()), response_frame);
    }
    let others: [(&str, Check); 6] = [
        ("ConsumerProtocolSubscription", message::<ConsumerProtocolSubscription>),
        ("ConsumerProtocolAssignment", message::<ConsumerProtocolAssignment>),
        ("OffsetCommitKey", message::<OffsetCommitKey>),
        ("OffsetCommitValue", message::<OffsetCommitValue>),
        ("GroupMetadataKey", message::<GroupMetadataKey>),
        ("GroupMetadataValue", message::<GroupMetadataValue>),
    ];
    for (name, check) in others {
        map.insert(("message".to_owned(), name.to_owned()), check);
    }
    map
}

#[test]
fn read_what_java_wrote() {
    let Some(path) = std::env::var_os("ESKER_JAVA_READ") else {
        return eprintln!("ESKER_JAVA_READ is not set: nothing to read");
    };
    let (checks, mut seen, mut wrong, mut compared) = (every_check(), BTreeSet::new(), Vec::new(), 0);
    let text = std::fs::read_to_string(path).unwrap();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [kind, name, version, raw, canonical] = words[..] else { panic!("not a line: {line}") };
        let check =
            checks.get(&(kind.to_owned(), name.to_owned())).unwrap_or_else(|| panic!("{kind} {name} is not ours"));
        let (version, canonical) = (version.parse().unwrap(), unhex(&canonical[1..]));
        for bytes in [unhex(&raw[1..]), canonical.clone()] {
            match check(bytes.clone(), version) {
                Ok(ours) if ours == canonical => {}
                Ok(ours) => wrong.push(format!(
                    "{kind} {name} v{version}\n  read    {}\n  Kafka   {}\n  written {}",
                    hex(&bytes),
                    hex(&canonical),
                    hex(&ours)
                )),
                Err(error) => wrong.push(format!("{kind} {name} v{version}: {error}: {}", hex(&bytes))),
            }
        }
        seen.insert((kind, name, version));
        compared += 1;
    }
    let first = wrong.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} differences in {compared} messages, the first:\n{first}", wrong.len());
    let missing: Vec<_> =
        checks.keys().filter(|(kind, name)| !seen.iter().any(|s| s.0 == kind && s.1 == name)).collect();
    assert!(missing.is_empty(), "Java wrote none of {missing:?}");
    println!("{compared} messages of Java read and written byte for byte, {} messages x versions", seen.len());
}
