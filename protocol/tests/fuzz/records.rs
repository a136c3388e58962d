//! Record batches and message sets: everything that reads them, over damaged ones.

use bytes::Bytes;
use esker_protocol::compression::Compression;
use esker_protocol::records::legacy::{Messages, down_convert, up_convert};
use esker_protocol::records::rewrite::Rewrite;
use esker_protocol::records::{BatchBuilder, Batches, RecordHeader};

use crate::mutate::mutate;
use crate::random::Random;
use crate::{fuzz, peak};

/// What one batch may unpack to here.
const LIMIT: usize = 256 << 10;
/// Codecs work with tables and blocks of their own (LZ4: up to 4 MiB a block).
const CODEC_ROOM: usize = 16 << 20;

fn vectors() -> Vec<Bytes> {
    let unhex = |text: &str| {
        let pairs = (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap());
        Bytes::from(pairs.collect::<Vec<_>>())
    };
    include_str!("../data/record-vectors.txt").lines().map(|line| unhex(line.split_once(' ').unwrap().1)).collect()
}

fn random_batch(random: &mut Random) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::ALL[random.below(5)]);
    for delta in 0..=random.below(20) {
        let (key, value) = (random.below(20), random.below(300));
        let (key, value) = (random.bytes(key), random.bytes(value));
        let headers = [RecordHeader { key: &key, value: Some(&value) }];
        let headers = if random.chance(2) { &headers[..] } else { &[] };
        builder.append(delta as i32, random.next() as i64, Some(&key), Some(&value), headers);
    }
    builder.build().unwrap()
}

/// A damaged message is refused at its checksum: make that right, so that what lies behind it is reached.
fn mend_checksum(set: Bytes) -> Bytes {
    let mut out = set.to_vec();
    let length = out.get(8..12).map_or(0, |b| i32::from_be_bytes(b.try_into().unwrap()));
    if let Some(covered) = usize::try_from(length).ok().and_then(|length| out.get(16..12 + length)) {
        let crc = crc32fast::hash(covered);
        out[12..16].copy_from_slice(&crc.to_be_bytes());
    }
    out.into()
}

fn read_all(bytes: &Bytes) {
    for batch in Batches::new(bytes.clone()).flatten() {
        let _ = batch.verify_crc();
        let walked = batch.check_frames(LIMIT);
        let mut read = 0;
        let mut sound = true;
        if let Ok(records) = batch.records(LIMIT) {
            for record in records {
                match record {
                    Ok(record) => sound &= record.headers.iter().all(|header| header.is_ok()),
                    Err(_) => sound = false,
                }
                read += 1;
            }
        }
        if let Ok(summary) = walked {
            assert!(sound && read == batch.header.records_count, "the walk passed what reading refuses: {summary:?}");
        }
        let rewrite = Rewrite { renumber: true, ..Rewrite::recompress(Compression::Lz4, None) };
        let _ = rewrite.apply(&batch, LIMIT);
    }
    for magic in [0, 1] {
        let _ = down_convert(bytes, magic, 0, LIMIT);
    }
    let _ = up_convert(bytes, LIMIT);
    Messages::new(bytes.clone(), LIMIT).for_each(drop);
}

#[test]
fn record_batches() {
    let vectors = vectors();
    fuzz("record batches", |random| {
        let base = if random.chance(3) { random_batch(random) } else { vectors[random.below(vectors.len())].clone() };
        let mut input = mutate(random, &base);
        if random.chance(2) {
            input = mend_checksum(input);
        }
        let held = peak(|| read_all(&input));
        let allowed = CODEC_ROOM + 8 * LIMIT + 4 * input.len();
        assert!(held <= allowed, "{} bytes of input held {held} bytes", input.len());
    });
}
