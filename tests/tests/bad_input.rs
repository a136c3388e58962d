//! What no client should send: the connection closes (with a metric) or Kafka's error comes back, and nobody else notices.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::Bytes;
use esker_client::admin::NewTopic;
use esker_client::{Admin, Client, ClientConfig};
use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use esker_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use esker_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use esker_protocol::primitives::{Reader, Str};
use esker_protocol::records::{BatchBuilder, crc32c};
use esker_protocol::{Message, Request, decode_response, encode_request};
use esker_tests::{Esker, PATIENCE};

/// The other side has hung up (or reset) without a word.
fn is_closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    match stream.read(&mut byte) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

fn answer<R: Request>(stream: &mut TcpStream, version: i16, id: i32, request: &R) -> R::Response {
    stream.write_all(&encode_request(version, id, Some("test".into()), request).unwrap().into_bytes()).unwrap();
    let (got, response) = decode_response::<R>(version, frame(stream)).unwrap();
    assert_eq!(got, id);
    response
}

fn frame(stream: &mut TcpStream) -> Bytes {
    let mut size = [0; 4];
    stream.read_exact(&mut size).unwrap();
    let mut frame = vec![0; i32::from_be_bytes(size) as usize];
    stream.read_exact(&mut frame).unwrap();
    frame.into()
}

#[test]
fn what_is_no_request_closes_the_connection_and_is_counted() {
    let esker = Esker::spawn(&["serve", "--ephemeral"]);
    let mut witness = esker.connect();
    let known_api_bad_body = [&[0, 0, 0, 11, 0, 3, 0, 12, 0, 0, 0, 1, 0xff, 0xff, 0][..]].concat();
    for (what, bytes, reason) in [
        ("a negative length", &[0xff, 0xff, 0xff, 0xff][..], "negative_size"),
        ("a length over the limit", &[0x7f, 0, 0, 0], "too_large"),
        ("a TLS hello", &[0x16, 3, 1, 2, 0, 1, 0, 1], "tls"),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n", "http"),
        ("an unknown API", &[0, 0, 0, 10, 0x3f, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff], "unknown_api"),
        ("an API between nodes", &[0, 0, 0, 10, 0x7f, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff], "no_hello"),
        ("an unknown version", &[0, 0, 0, 11, 0, 3, 0x7f, 0, 0, 0, 0, 1, 0xff, 0xff, 0], "unsupported_version"),
        ("a body that ends early", &known_api_bad_body, "malformed"),
        ("a request without a header", &[0, 0, 0, 2, 0, 3], "malformed"),
    ] {
        let label = format!("esker_connections_closed_total{{reason=\"{reason}\"}}");
        let before = esker.metric(&label);
        let mut stream = esker.connect();
        stream.write_all(bytes).unwrap();
        assert!(is_closed(&mut stream), "{what}");
        let deadline = Instant::now() + PATIENCE;
        while esker.metric(&label) <= before {
            assert!(Instant::now() < deadline, "{what} is not counted as {reason}");
        }
    }
    let response = answer(&mut witness, 0, 1, &ApiVersionsRequest::default());
    assert!(!response.error_code.is_error(), "others go on");
}

#[test]
fn half_a_request_and_silence_harm_nobody() {
    let esker = Esker::spawn(&["serve", "--ephemeral"]);
    let mut stuck: Vec<_> = (0..200).map(|_| esker.connect()).collect();
    for stream in &mut stuck {
        stream.write_all(&[0, 0x10, 0, 0, 0, 3]).unwrap();
    }
    let response = answer(&mut esker.connect(), 0, 1, &ApiVersionsRequest::default());
    assert!(!response.error_code.is_error());
    assert!(esker.memory_kb("VmRSS") < 200_000, "claims cost little: {} kB", esker.memory_kb("VmRSS"));
}

#[test]
fn an_unsupported_api_versions_is_answered_in_version_0() {
    let esker = Esker::spawn(&["serve", "--ephemeral"]);
    let mut stream = esker.connect();
    stream.write_all(&[0, 0, 0, 12, 0, 18, 0, 99, 0, 0, 0, 7, 0xff, 0xff, 0, 0]).unwrap();
    let mut reader = Reader::new(frame(&mut stream));
    assert_eq!(reader.i32().unwrap(), 7);
    let response = ApiVersionsResponse::decode(&mut reader, 0).unwrap();
    assert_eq!(response.error_code, ErrorCode::UNSUPPORTED_VERSION);
    assert_eq!((response.api_keys.len(), response.api_keys[0].api_key), (1, 18));
}

#[test]
fn answers_come_in_request_order() {
    let esker = Esker::spawn(&["serve", "--ephemeral"]);
    let mut stream = esker.connect();
    let mut all = Vec::new();
    for id in 0..500 {
        all.extend(encode_request(0, id, None, &ApiVersionsRequest::default()).unwrap().into_bytes());
    }
    stream.write_all(&all).unwrap();
    for id in 0..500 {
        assert_eq!(frame(&mut stream)[..4], i32::to_be_bytes(id));
    }
}

fn batch() -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.append(0, 1_700_000_000_000, Some(b"k"), Some(b"v"), &[]);
    builder.build().unwrap().to_vec()
}

fn produce(
    stream: &mut TcpStream,
    topic: &'static str,
    partition: i32,
    acks: i16,
    records: Option<Vec<u8>>,
) -> ErrorCode {
    let data = PartitionProduceData { index: partition, records: records.map(Bytes::from) };
    let request = ProduceRequest {
        acks,
        timeout_ms: 1000,
        topic_data: vec![TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() }],
        ..ProduceRequest::default()
    };
    answer(stream, 9, 1, &request).responses[0].partition_responses[0].error_code
}

/// Changes a batch and makes its CRC right again, so that only the change is wrong.
fn resealed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = batch();
    change(&mut bytes);
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[tokio::test]
async fn bad_records_get_kafkas_errors() {
    let esker = Esker::spawn(&["serve", "--ephemeral"]);
    let client = Client::connect(ClientConfig::new(&esker.kafka.to_string())).await.unwrap();
    let configs = vec![("max.message.bytes".into(), "1000".into())];
    let topic = NewTopic { partitions: 1, configs, ..NewTopic::new("t") };
    for created in Admin::new(&client).create_topics(&[topic], false).await.unwrap() {
        created.unwrap();
    }
    tokio::task::spawn_blocking(move || {
        let mut stream = esker.connect();
        let mut broken = batch();
        broken[65] ^= 1;
        let mut magic = batch();
        magic[16] = 3;
        let cases: Vec<(&str, ErrorCode, Option<Vec<u8>>)> = vec![
            ("a good batch", ErrorCode::NONE, Some(batch())),
            ("no records", ErrorCode::INVALID_RECORD, None),
            ("an empty record set", ErrorCode::INVALID_RECORD, Some(vec![])),
            ("half a batch", ErrorCode::INVALID_RECORD, Some(batch()[..40].to_vec())),
            ("two batches", ErrorCode::INVALID_RECORD, Some([batch(), batch()].concat())),
            ("a wrong CRC", ErrorCode::CORRUPT_MESSAGE, Some(broken)),
            ("a magic of the future", ErrorCode::CORRUPT_MESSAGE, Some(magic)),
            (
                "a wrong count",
                ErrorCode::INVALID_RECORD,
                Some(resealed(|b| b[57..61].copy_from_slice(&9i32.to_be_bytes()))),
            ),
            (
                "a wrong last offset",
                ErrorCode::INVALID_RECORD,
                Some(resealed(|b| b[23..27].copy_from_slice(&9i32.to_be_bytes()))),
            ),
            ("a control batch", ErrorCode::INVALID_RECORD, Some(resealed(|b| b[22] |= 0x20))),
            (
                "too large",
                ErrorCode::MESSAGE_TOO_LARGE,
                Some({
                    let mut builder = BatchBuilder::new(Compression::None);
                    builder.append(0, 1_700_000_000_000, None, Some(&[0; 2000]), &[]);
                    builder.build().unwrap().to_vec()
                }),
            ),
        ];
        for (what, expected, records) in cases {
            assert_eq!(produce(&mut stream, "t", 0, -1, records), expected, "{what}");
        }
        assert_eq!(produce(&mut stream, "t", 0, 5, Some(batch())), ErrorCode::INVALID_REQUIRED_ACKS);
        assert_eq!(produce(&mut stream, "t", 7, 1, Some(batch())), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(produce(&mut stream, "unknown", 0, 1, Some(batch())), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    })
    .await
    .unwrap();
}

#[test]
fn illegal_topic_names_are_named_so() {
    let esker = Esker::spawn(&["serve", "--ephemeral"]);
    let mut stream = esker.connect();
    for name in ["", "..", "a/b", "ä"] {
        let topic = MetadataRequestTopic { name: Some(Str::copy(name)), ..MetadataRequestTopic::default() };
        let request = MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() };
        let response = answer(&mut stream, 12, 1, &request);
        assert_eq!(response.topics[0].error_code, ErrorCode::INVALID_TOPIC_EXCEPTION, "{name:?}");
    }
}

#[test]
fn idle_connections_cost_little() {
    let esker = Esker::spawn(&["serve", "--ephemeral"]);
    let before = esker.memory_kb("VmRSS");
    // As many as the limit on open files leaves room for, here and in the broker.
    let mut open = Vec::new();
    while open.len() < 10_000 {
        match TcpStream::connect(esker.kafka) {
            Ok(stream) => open.push(stream),
            Err(_) => break,
        }
        if open.len() >= 400 && std::env::var_os("ESKER_MANY_CONNECTIONS").is_none() {
            break;
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while (esker.metric("esker_client_connections") as usize) < open.len() {
        assert!(Instant::now() < deadline, "not all were accepted");
        std::thread::sleep(Duration::from_millis(5));
    }
    let grown = esker.memory_kb("VmRSS").saturating_sub(before);
    println!("{} idle connections: {grown} kB more", open.len());
    assert!(grown < 20 * open.len() as u64 + 20_000, "{grown} kB for {} connections", open.len());
    let response = answer(&mut esker.connect(), 0, 1, &ApiVersionsRequest::default());
    assert!(!response.error_code.is_error());
}
