//! What the system knows of this process, under the names that every Prometheus client uses. Nothing where there is no
//! `/proc`.

use super::page::{Kind, Page};

/// Reads and writes.
pub fn write_process(page: &mut Page) {
    let read = |name: &str| std::fs::read_to_string(name).unwrap_or_default();
    let statm = read("/proc/self/statm");
    let pages = |at: usize| statm.split_whitespace().nth(at).and_then(|pages| pages.parse::<f64>().ok());
    for (at, name, help) in [
        (0, "process_virtual_memory_bytes", "Virtual memory, bytes"),
        (1, "process_resident_memory_bytes", "Resident memory, bytes"),
    ] {
        let mut rows = page.family(name, Kind::Gauge, &[], help);
        if let Some(pages) = pages(at) {
            rows.add(&[], pages * rustix::param::page_size() as f64);
        }
    }
    let stat = read("/proc/self/stat");
    // The name of the process stands in parentheses and may have blanks in it.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect::<Vec<_>>()).unwrap_or_default();
    let field = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let cpu = field(11).zip(field(12)).map(|(user, system)| (user + system) / ticks);
    let started = boot_seconds(&read("/proc/stat")).zip(field(19)).map(|(boot, after)| boot + after / ticks);
    let descriptors = std::fs::read_dir("/proc/self/fd").ok().map(|descriptors| descriptors.count() as f64);
    let most_descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    for (name, kind, help, value) in [
        ("process_cpu_seconds_total", Kind::Counter, "Processor time used, seconds", cpu),
        ("process_start_time_seconds", Kind::Gauge, "When the process started, seconds since 1970", started),
        ("process_threads", Kind::Gauge, "Threads", field(17)),
        ("process_open_fds", Kind::Gauge, "Open file descriptors", descriptors),
        ("process_max_fds", Kind::Gauge, "File descriptors that may be open", most_descriptors.map(|most| most as f64)),
    ] {
        let mut rows = page.family(name, kind, &[], help);
        if let Some(value) = value {
            rows.add(&[], value);
        }
    }
    let io = read("/proc/self/io");
    let bytes = |name: &str| io.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    for (name, field, help) in [
        ("read", "read_bytes:", "Bytes that this process had read from disks"),
        ("write", "write_bytes:", "Bytes that this process had written to disks"),
    ] {
        let name = format!("kafka_server_kafkaserver_linux_disk_{name}_bytes");
        let mut rows = page.family(&name, Kind::Gauge, &[], help);
        if let Some(value) = bytes(field) {
            rows.add(&[], value);
        }
    }
}

/// When the system started, from `/proc/stat`.
fn boot_seconds(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}
