//! The CRC check of a batch beside a plain read of the same memory: in the processor's caches, where a batch lies that has just
//! come from the socket, and out of them.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use esker_protocol::records::Batch;

use super::batch;
use super::cpu::CpuTime;

/// More than any cache holds.
const COLD: usize = 512 << 20;

/// Adds up 64-bit words: the compiler makes it as wide as the processor.
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.as_chunks::<8>().0;
    words.iter().fold(0, |sum, word| sum.wrapping_add(u64::from_ne_bytes(*word)))
}

pub fn run(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("crc");
    for size in [64 << 10, 1 << 20] {
        let one = batch(size);
        let size = one.bytes.len();
        let many: Vec<Batch> =
            (0..COLD / size).map(|_| Batch { header: one.header, bytes: Bytes::from(one.bytes.to_vec()) }).collect();
        group.throughput(Throughput::Bytes(size as u64));
        for (place, batches) in [("in cache", many.get(..1).unwrap_or_default()), ("in memory", many.as_slice())] {
            let mut next = batches.iter().cycle();
            group.bench_function(BenchmarkId::new(format!("read {place}"), size), |b| {
                b.iter(|| next.next().map(|batch| sum(black_box(&batch.bytes))))
            });
            group.bench_function(BenchmarkId::new(format!("check {place}"), size), |b| {
                b.iter(|| next.next().map(|batch| black_box(batch).verify_crc()))
            });
        }
    }
    group.finish();
}
