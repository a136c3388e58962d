//! Index files of closed segments as the next start finds them.

use esker_protocol::compression::Compression;

use super::*;

#[test]
fn a_rebuilt_time_index_ends_with_the_largest_timestamp_and_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let config = LogConfig { index_interval_bytes: 100, ..LogConfig::default() };
    let opening = Opening { clean: true, ..Opening::new(config) };
    let log = opening.open(dir.path());
    let times = [5i64, 9, 3];
    for time in times {
        append_bytes(&log, batch(Compression::None, &[(NOW + time, &[1; 50])]), CLIENT, 0).unwrap();
    }
    // Much larger than what needs an entry, but alone.
    log.roll(NOW).unwrap();
    append_bytes(&log, batch(Compression::None, &[(NOW + 1, &[2; 10_000])]), CLIENT, 0).unwrap();
    log.roll(NOW).unwrap();
    log.close_clean(true).unwrap();
    drop(log);
    let index = |base: i64| dir.path().join(format!("t-0/{base:020}.timeindex"));
    let last = |base: i64| std::fs::read(index(base)).unwrap().last_chunk::<12>().copied();
    let entry = |time: i64, relative: u32| {
        let mut entry = [0; 12];
        entry[..8].copy_from_slice(&(NOW + time).to_be_bytes());
        entry[8..].copy_from_slice(&relative.to_be_bytes());
        Some(entry)
    };
    std::fs::remove_file(index(0)).unwrap();
    let stamp = std::fs::metadata(index(3)).unwrap().modified().unwrap();
    let log = opening.open(dir.path());
    let newest = log.max_timestamp_offset().unwrap().unwrap();
    assert_eq!(newest.timestamp, NOW + 9);
    assert_eq!(log.offset_for_timestamp(NOW + 9).unwrap().unwrap().offset, 1);
    assert_eq!((last(0), last(3)), (entry(9, 1), entry(1, 0)));
    assert_eq!(std::fs::metadata(index(3)).unwrap().modified().unwrap(), stamp, "not made again");
}
