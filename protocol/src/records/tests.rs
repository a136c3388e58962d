mod batches;
mod legacy;
mod properties;

use bytes::Bytes;

use super::*;
use crate::compression::Compression;

const LIMIT: usize = 16 << 20;
const T: i64 = 1_700_000_000_000;

/// What kafka-clients wrote; see `tests/data/RecordVectors.java`.
fn vector(name: &str) -> Bytes {
    let all = include_str!("../../tests/data/record-vectors.txt");
    let line = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
    (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap()).collect::<Vec<_>>().into()
}

/// The records of the vectors.
fn fill(builder: &mut BatchBuilder) {
    let value = "value-1".repeat(20);
    let headers = [RecordHeader::new("trace", Some(b"a1")), RecordHeader::new("none", None)];
    builder
        .append(0, T, Some(b"key-1"), Some(value.as_bytes()), &headers)
        .append(1, T + 5, None, Some(b""), &[])
        .append(2, T - 7, Some(b"key-3"), None, &[]);
}

fn only(bytes: Bytes) -> Batch {
    let (batch, rest) = Batch::parse(bytes).unwrap();
    assert!(rest.is_empty());
    batch.verify_crc().unwrap();
    batch
}

fn records(batch: &Batch) -> Vec<Record> {
    batch.records(LIMIT).unwrap().collect::<Result<_, _>>().unwrap()
}
