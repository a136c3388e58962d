//! What the kernel says about a process: CPU time and resident memory (Linux).

use crate::Result;

/// Resident memory, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// All of it.
    pub resident: u64,
    /// Of its own: heap, stacks.
    pub anonymous: u64,
    /// Of files: the program, and what it has mapped of its logs.
    pub file: u64,
}

/// CPU seconds that process `pid` has used, in user and kernel mode, all threads.
///
/// # Errors
/// There is no such process.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything; the fields after it are numbers. utime and stime are the 14th and 15th of all.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    let (user, system) = ticks(11).zip(ticks(12)).ok_or("cannot read the CPU time of the broker")?;
    Ok((user + system) / rustix::param::clock_ticks_per_second() as f64)
}

/// CPU seconds that the host of a virtual machine has taken from it since it began, over all processors: what latencies of such times
/// show is not the program's.
///
/// # Errors
/// `/proc/stat` cannot be read.
pub fn stolen_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    // "cpu", then user, nice, system, idle, iowait, irq, softirq, steal.
    let ticks = stat.lines().next().and_then(|all| all.split_whitespace().nth(8)?.parse::<f64>().ok());
    Ok(ticks.ok_or("cannot read the time that was stolen")? / rustix::param::clock_ticks_per_second() as f64)
}

/// Resident memory of process `pid`.
///
/// # Errors
/// There is no such process.
pub fn memory(pid: u32) -> Result<Memory> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    Ok(Memory { resident: field("VmRSS:"), anonymous: field("RssAnon:"), file: field("RssFile:") })
}
