use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::super::legacy::{Messages, down_convert, up_convert};
use super::*;

type Field = Option<Vec<u8>>;

#[derive(Debug, Clone)]
struct Given {
    timestamp: i64,
    key: Field,
    value: Field,
    headers: Vec<(String, Field)>,
}

fn given() -> impl Strategy<Value = Vec<Given>> {
    let field = || of(vec(any::<u8>(), 0..200));
    let one = (any::<i32>(), field(), field(), vec(("[a-zé]{0,9}", field()), 0..3))
        .prop_map(|(t, key, value, headers)| Given { timestamp: T + i64::from(t), key, value, headers });
    vec(one, 1..40)
}

fn build(codec: Compression, given: &[Given]) -> Bytes {
    let mut builder = BatchBuilder::new(codec).producer(1, 2, 3);
    for (delta, g) in (0..).zip(given) {
        let headers: Vec<_> = g.headers.iter().map(|(key, value)| RecordHeader::new(key, value.as_deref())).collect();
        builder.append(delta, g.timestamp, g.key.as_deref(), g.value.as_deref(), &headers);
    }
    builder.build().unwrap()
}

fn codec() -> impl Strategy<Value = Compression> {
    prop::sample::select(&Compression::ALL[..])
}

/// Everything that reads a batch, over bytes that may be anything.
fn read_all(bytes: &Bytes) {
    for batch in Batches::new(bytes.clone()).flatten() {
        let _ = batch.verify_crc();
        let _ = batch.check_frames(1 << 16);
        if let Ok(records) = batch.records(1 << 16) {
            for record in records.flatten() {
                record.headers.iter().for_each(drop);
            }
        }
        let rewrite = rewrite::Rewrite { renumber: true, ..rewrite::Rewrite::recompress(Compression::Lz4, None) };
        let _ = rewrite.apply(&batch, 1 << 16);
    }
    for magic in [0, 1] {
        let _ = down_convert(bytes, magic, 0, 1 << 16);
    }
    let _ = up_convert(bytes, 1 << 16);
    Messages::new(bytes.clone(), 1 << 16).for_each(drop);
}

proptest! {
    #[test]
    fn what_is_built_is_read(codec in codec(), given in given()) {
        let batch = only(build(codec, &given));
        let summary = batch.check_frames(LIMIT).unwrap();
        prop_assert_eq!(summary.max_timestamp, given.iter().map(|g| g.timestamp).max().unwrap());
        prop_assert_eq!(summary.max_timestamp, batch.header.max_timestamp);
        prop_assert_eq!(summary.min_timestamp, given.iter().map(|g| g.timestamp).min().unwrap());
        prop_assert_eq!(summary.first_null_key, given.iter().position(|g| g.key.is_none()).map(|at| at as i32));
        let got = records(&batch);
        prop_assert_eq!(got.len(), given.len());
        for (index, (record, g)) in got.iter().zip(&given).enumerate() {
            prop_assert_eq!(record.offset, index as i64);
            prop_assert_eq!(record.timestamp, g.timestamp);
            prop_assert_eq!(record.key.as_deref(), g.key.as_deref());
            prop_assert_eq!(record.value.as_deref(), g.value.as_deref());
            let headers: Vec<_> = record.headers.iter().map(Result::unwrap).collect();
            let wanted: Vec<_> = g.headers.iter().map(|(k, v)| RecordHeader::new(k, v.as_deref())).collect();
            prop_assert_eq!(headers, wanted);
        }
    }

    #[test]
    fn conversions_keep_records(codec in codec(), given in given(), magic in 0..2_i8) {
        prop_assume!(codec != Compression::Zstd);
        let batch = build(codec, &given);
        let set = down_convert(&batch, magic, 0, LIMIT).unwrap();
        let back = records(&only(up_convert(&set, LIMIT).unwrap()));
        prop_assert_eq!(back.len(), given.len());
        for (record, g) in back.iter().zip(&given) {
            prop_assert_eq!(record.timestamp, if magic == 0 { -1 } else { g.timestamp });
            prop_assert_eq!(record.key.as_deref(), g.key.as_deref());
            prop_assert_eq!(record.value.as_deref(), g.value.as_deref());
        }
    }

    #[test]
    fn damage_never_panics(codec in codec(), given in given(), flips in vec((any::<prop::sample::Index>(), 0..8_u8), 1..4),
        cut in any::<prop::sample::Index>()) {
        let bytes = build(codec, &given);
        let mut damaged = bytes.to_vec();
        for (index, bit) in flips {
            let at = index.index(damaged.len());
            damaged[at] ^= 1 << bit;
        }
        read_all(&damaged.into());
        read_all(&bytes.slice(..cut.index(bytes.len())));
    }

    #[test]
    fn one_flipped_bit_is_always_found(given in given(), index in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut bytes = build(Compression::None, &given).to_vec();
        let at = 21 + index.index(bytes.len() - 21);
        bytes[at] ^= 1 << bit;
        let (batch, _) = Batch::parse(bytes.into()).unwrap();
        let found = matches!(batch.verify_crc(), Err(BatchError::Crc { .. }));
        prop_assert!(found);
    }

    #[test]
    fn damaged_message_sets_never_panic(flips in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), which in 0..8_usize) {
        let names = ["v0-none", "v0-gzip", "v0-snappy", "v0-lz4", "v1-none", "v1-gzip", "v1-snappy", "v1-lz4"];
        let mut bytes = vector(names[which]).to_vec();
        for (index, value) in flips {
            let at = index.index(bytes.len());
            bytes[at] = value;
        }
        read_all(&bytes.into());
    }

    #[test]
    fn numbers_round_trip(value in any::<i64>(), shift in 0..64_u32) {
        let value = value >> shift;
        let mut out = Vec::new();
        varint::write_i64(&mut out, value);
        prop_assert_eq!(out.len(), varint::size(value));
        let mut at = 0;
        prop_assert_eq!(varint::read_i64(&out, &mut at), Ok(value));
        if let Ok(small) = i32::try_from(value) {
            let mut at = 0;
            prop_assert_eq!(varint::read_i32(&out, &mut at), Ok(small));
            prop_assert_eq!(at, out.len());
        }
    }
}
