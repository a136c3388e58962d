//! The progress of a running pass, and a pass that panics.

use super::*;
use crate::{hooked::Doing, test_support::gate::Gate};

fn fill(log: &Log) {
    for i in 0..60 {
        append_keyed(log, Compression::None, &[(&format!("k{}", i % 20), Some(&"x".repeat(130)))]);
    }
}

#[test]
fn a_running_pass_reports_its_progress() {
    let dir = tempfile::tempdir().unwrap();
    let gate =
        Gate::new(|doing| matches!(doing, Doing::RemoveFile(path) if path.extension().is_some_and(|e| e == "deleted")));
    let logs = open_on(gate.disk(), dir.path());
    let log = create(&logs);
    fill(&log);
    let cleaner = cleaner(1 << 20);
    assert_eq!(cleaner.stats().running, RunningPasses::default());
    gate.close();
    std::thread::scope(|scope| {
        let pass = scope.spawn(|| cleaner.run_pass(&logs, NOW));
        gate.wait_for_blocked_call();
        // The first group of segments is finished.
        let running = cleaner.stats().running;
        let dirty: u64 = log.segments().iter().rev().skip(1).map(|segment| segment.size()).sum();
        assert_eq!(running.passes, 1);
        assert!(running.bytes > dirty / 2 && running.bytes < running.bytes_in_all, "{running:?}");
        assert!(running.records > 40 && running.records < 120, "{running:?}");
        gate.open();
        assert!(pass.join().unwrap());
    });
    let stats = cleaner.stats();
    assert_eq!(stats.running, RunningPasses::default());
    assert!(stats.compactions == 1 && stats.last.map_entries == 20 && stats.last.map_percent == 0);
    // A map that is full.
    fill(&log);
    let small = super::cleaner(10 * offset_map::SLOT_BYTES);
    assert!(small.run_pass(&logs, NOW));
    assert_eq!((small.stats().last.map_entries, small.stats().last.map_percent), (9, 100));
}

#[test]
fn a_log_on_which_a_pass_panics_does_not_block_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::new(|doing| match doing {
        Doing::Open(path, _)
            if path.to_string_lossy().contains("/t-0/") && path.ends_with("00000000000000000000.log.cleaned") =>
        {
            panic!("as if there were a mistake in it")
        }
        _ => false,
    });
    let logs = open_on(gate.disk(), dir.path());
    let log = create(&logs);
    let other = logs.create("u", 0, Uuid([4; 16]), config(), NOW).unwrap();
    fill(&log);
    fill(&other);
    fill(&other);
    let cleaner = cleaner(1 << 20);
    std::thread::scope(|scope| {
        let passes = (0..2).map(|_| scope.spawn(|| cleaner.run_pass(&logs, NOW)).join());
        assert_eq!(passes.filter(Result::is_err).count(), 1);
    });
    let stats = cleaner.stats();
    assert_eq!((stats.uncleanable_partitions, stats.compactions), (1, 1));
    assert_eq!(stats.uncleanable_bytes, log.size_bytes());
    assert!(!cleaner.run_pass(&logs, NOW), "it is uncleanable");
}
