//! Requests: for every API and version, valid bytes made from the schema, whole and damaged.

use bytes::Bytes;
use esker_protocol::Request;
use esker_protocol::api::ApiKey;
use esker_protocol::messages::*;
use esker_protocol::primitives::{Reader, Writer};
use esker_protocol::{Message, RequestHeader};

use crate::generate::generate;
use crate::mutate::mutate;
use crate::random::Random;
use crate::{fuzz, peak};

/// What a decoded request may hold for each byte of its frame: the largest struct that an empty element becomes.
const PER_BYTE: usize = 128;
const ROOM: usize = 64 << 10;

fn decode<R: Message>(bytes: Bytes, version: i16) -> Option<R> {
    let mut r = Reader::new(bytes);
    R::decode(&mut r, version).ok()
}

fn encode<R: Message>(message: &R, version: i16) -> Bytes {
    let mut w = Writer::new();
    message.encode(&mut w, version).unwrap();
    w.finish().into_bytes()
}

fn one<M: Message>(random: &mut Random, version: i16) {
    let name = M::SCHEMA.name;
    let valid = generate::<M>(random, version);
    let message = decode::<M>(valid.clone(), version);
    let message = message.unwrap_or_else(|| panic!("{name} v{version}: its own bytes are refused: {valid:x?}"));
    let again = decode::<M>(encode(&message, version), version).unwrap();
    // Through bytes, since a NaN is not equal to itself.
    assert_eq!(encode(&again, version), encode(&message, version), "{name} v{version}");
    for _ in 0..4 {
        let damaged = mutate(random, &valid);
        let length = damaged.len();
        let held = peak(|| {
            if let Some(message) = decode::<M>(damaged, version) {
                let _ = message.encode(&mut Writer::new(), version);
            }
        });
        assert!(held <= ROOM + PER_BYTE * length, "{name} v{version}: {length} bytes of input held {held} bytes");
    }
}

fn request_and_response<R: Request>(random: &mut Random) {
    let version = *R::VERSIONS.start() + random.below(R::VERSIONS.count()) as i16;
    one::<R>(random, version);
    one::<R::Response>(random, version);
}

const REQUESTS: &[fn(&mut Random)] = &for_every_request!(request_and_response);

#[test]
fn requests() {
    fuzz("requests", |random| REQUESTS[random.below(REQUESTS.len())](random));
}

#[test]
fn request_headers() {
    fuzz("request headers", |random| {
        let key = ApiKey(random.below(100) as i16);
        let header = RequestHeader {
            api_key: key,
            api_version: random.below(20) as i16 - 2,
            correlation_id: random.next() as i32,
            client_id: random.chance(2).then(|| "client".into()),
        };
        let mut w = Writer::new();
        header.encode(&mut w).unwrap();
        let bytes = w.finish().into_bytes();
        assert_eq!(RequestHeader::decode(&mut Reader::new(bytes.clone())), Ok(header));
        let _ = RequestHeader::decode(&mut Reader::new(mutate(random, &bytes)));
    });
}
