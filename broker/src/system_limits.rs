//! What the system allows this process: open segments, connections of clients, memory for requests.

use tracing::info;

/// How many segments may be open: `log.open.files.max`, as far as the system allows. Half of the descriptors are left to connections
/// and all else; of the maps that a process may have, a segment takes three.
pub fn limit_open_segments(configured: usize) -> usize {
    let maps = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok().and_then(|text| text.trim().parse().ok());
    let allowed = allowed_segments(descriptors()).min(maps.map_or(usize::MAX, |maps: usize| maps / 4)).max(1);
    if allowed < configured {
        info!(
            configured,
            allowed,
            "the system allows fewer open segments than log.open.files.max; see ulimit -n and vm.max_map_count"
        );
    }
    configured.min(allowed)
}

/// How many connections clients may have, whatever `max.connections` says: the descriptors that segments do not take, but for an eighth
/// of all. Those are for connections of other nodes and of HTTP, and for files that are open for a moment: with no descriptor left, a
/// node could not even be accepted, and would be fenced.
pub fn limit_connections(open_segments: usize) -> usize {
    allowed_connections(descriptors(), open_segments)
}

fn allowed_segments(descriptors: usize) -> usize {
    descriptors / 2
}

fn allowed_connections(descriptors: usize, open_segments: usize) -> usize {
    let segments = open_segments.min(allowed_segments(descriptors));
    descriptors.saturating_sub(segments).saturating_sub(descriptors.div_ceil(8)).max(1)
}

/// Descriptors that this process may have open.
fn descriptors() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX)
}

/// The least that requests of all connections may take where `queued.max.request.bytes` is not set.
const REQUEST_BYTES_FLOOR: u64 = 64 << 20;

/// Bytes that requests of all connections may take: `queued.max.request.bytes`, or a quarter of the memory. `None` is no bound.
pub fn request_bytes(configured: Option<i64>) -> Option<u64> {
    match configured {
        Some(bytes) => u64::try_from(bytes).ok().filter(|bytes| *bytes > 0),
        None => Some(usable_memory().map_or(REQUEST_BYTES_FLOOR, |all| (all / 4).max(REQUEST_BYTES_FLOOR))),
    }
}

/// Bytes of memory that this process may use: the machine's, or fewer where a control group limits them.
fn usable_memory() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let line = read("/proc/meminfo")?.lines().find_map(|line| line.strip_prefix("MemTotal:").map(str::to_owned))?;
    let machine = line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.saturating_mul(1024);
    let own = read("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let groups = [
        format!("/sys/fs/cgroup{}/memory.max", own.trim_end_matches('/')),
        "/sys/fs/cgroup/memory.max".to_owned(),
        "/sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned(),
    ];
    let limits = groups.iter().filter_map(|path| read(path)?.trim().parse::<u64>().ok());
    Some(limits.fold(machine, u64::min))
}

#[cfg(test)]
mod tests {
    use super::{allowed_connections, allowed_segments};

    #[test]
    fn segments_and_clients_leave_descriptors_for_nodes() {
        for (descriptors, configured, connections) in [
            (1024, 16384, 384),
            (20_000, 16384, 7500),
            (1 << 20, 16384, (1 << 20) - 16384 - (1 << 17)),
            (20_000, 100, 17_400),
            (1, 16384, 1),
        ] {
            assert_eq!(allowed_connections(descriptors, configured), connections, "{descriptors} {configured}");
            let taken = allowed_segments(descriptors).min(configured) + connections;
            assert!(descriptors == 1 || taken <= descriptors - descriptors / 8, "{descriptors} {configured}");
        }
    }

    #[test]
    fn requests_have_a_bound_unless_it_is_taken_away() {
        for (configured, bound) in [(Some(5 << 20), Some(5 << 20)), (Some(-1), None), (Some(0), None)] {
            assert_eq!(super::request_bytes(configured), bound);
        }
        assert!(super::request_bytes(None).unwrap() >= super::REQUEST_BYTES_FLOOR);
        if cfg!(target_os = "linux") {
            assert!(super::usable_memory().unwrap() > 16 << 20);
        }
    }
}
