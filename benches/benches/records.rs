//! The checks that every produced batch passes, and the codecs. Throughput is in bytes of the batch.

#![allow(clippy::unwrap_used)] // A benchmark that cannot make its input may say so by ending.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use esker_benches::sample_batch;
use esker_protocol::compression::{Compression, compress, decompress};
use esker_protocol::records::{Batch, BatchBuilder, BatchHeader, crc32c};

const BATCH: usize = 64 * 1024;

fn batch(codec: Compression, value_bytes: usize) -> Batch {
    let (bytes, _) = sample_batch(codec, value_bytes, BATCH, 1_700_000_000_000).unwrap();
    Batch::parse(bytes).unwrap().0
}

fn checks(c: &mut Criterion) {
    for value_bytes in [100, 1024] {
        let batch = batch(Compression::None, value_bytes);
        let mut group = c.benchmark_group(format!("64 KiB batch of {value_bytes} B records"));
        group.throughput(Throughput::Bytes(batch.bytes.len() as u64));
        group.bench_function("parse header", |b| b.iter(|| BatchHeader::parse(black_box(&batch.bytes))));
        group.bench_function("crc", |b| b.iter(|| crc32c(black_box(&batch.bytes))));
        group.bench_function("check frames", |b| b.iter(|| black_box(&batch).check_frames(0)));
        group.bench_function("iterate records", |b| b.iter(|| batch.records(0).unwrap().count()));
        let value = vec![7; value_bytes];
        group.bench_function("build", |b| {
            b.iter(|| {
                let mut builder = BatchBuilder::new(Compression::None);
                for delta in 0..batch.header.records_count {
                    builder.append(delta, 0, None, Some(&value), &[]);
                }
                builder.build()
            })
        });
        group.finish();
    }
}

fn codecs(c: &mut Criterion) {
    let plain = batch(Compression::None, 100).bytes;
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let mut packed = Vec::new();
        compress(codec, None, &plain, &mut packed).unwrap();
        let packed = packed.into();
        let mut group = c.benchmark_group(format!("{codec}, 64 KiB"));
        group.throughput(Throughput::Bytes(plain.len() as u64));
        group.bench_function("compress", |b| {
            b.iter_batched_ref(
                || Vec::with_capacity(2 * BATCH),
                |out| compress(codec, None, black_box(&plain), out),
                BatchSize::SmallInput,
            )
        });
        group.bench_function("decompress", |b| b.iter(|| decompress(codec, black_box(&packed), 1 << 20)));
        group.finish();
    }
}

criterion_group!(benches, checks, codecs);
criterion_main!(benches);
