//! What the system knows of this process, under the names that every Prometheus client uses. Nothing where there is no
//! `/proc`.

use prometheus::{Counter, Gauge, Registry};

/// Reads and registers.
pub fn register(registry: &Registry) -> Result<(), prometheus::Error> {
    let gauge = |name: &str, help: &str, value: f64| {
        let gauge = Gauge::new(name, help)?;
        gauge.set(value);
        registry.register(Box::new(gauge))
    };
    let read = |name: &str| std::fs::read_to_string(name).unwrap_or_default();
    let statm = read("/proc/self/statm");
    if let Some(pages) = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<f64>().ok()) {
        let bytes = pages * rustix::param::page_size() as f64;
        gauge("process_resident_memory_bytes", "Resident memory in bytes", bytes)?;
    }
    let stat = read("/proc/self/stat");
    // The name of the process stands in parentheses and may have blanks in it.
    if let Some((_, rest)) = stat.rsplit_once(')') {
        let fields: Vec<f64> = rest.split_whitespace().map(|field| field.parse().unwrap_or_default()).collect();
        if let (Some(user), Some(system)) = (fields.get(11), fields.get(12)) {
            let seconds = Counter::new("process_cpu_seconds_total", "Processor time used, in seconds")?;
            seconds.inc_by((user + system) / rustix::param::clock_ticks_per_second() as f64);
            registry.register(Box::new(seconds))?;
        }
        if let Some(threads) = fields.get(17) {
            gauge("process_threads", "Threads", *threads)?;
        }
    }
    if let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") {
        gauge("process_open_fds", "Open file descriptors", descriptors.count() as f64)?;
    }
    Ok(())
}
