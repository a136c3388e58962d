//! CPU time of this process by group of threads, from the kernel's own count in nanoseconds.

use std::collections::BTreeMap;
use std::time::Duration;

use esker_benches::Result;

use crate::environment::Group;

/// CPU time, or a rate of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    /// Of the leader, its log's thread included.
    pub leader: f64,
    /// Of the other two voters.
    pub voters: f64,
    /// Of all learners.
    pub learners: f64,
}

impl Cpu {
    /// Seconds so far. The threads that count live as long as their members.
    pub fn now() -> Result<Self> {
        let mut by_group: BTreeMap<String, f64> = BTreeMap::new();
        for task in std::fs::read_dir("/proc/self/task")? {
            let folder = task?.path();
            // The thread may have ended.
            let (Ok(name), Ok(times)) =
                (std::fs::read_to_string(folder.join("comm")), std::fs::read_to_string(folder.join("schedstat")))
            else {
                continue;
            };
            let nanos: f64 = times.split_whitespace().next().ok_or("no CPU time of a thread")?.parse()?;
            *by_group.entry(name.trim().to_owned()).or_default() += nanos / 1e9;
        }
        let of = |group: Group| by_group.get(group.name()).copied().unwrap_or_default();
        Ok(Self { leader: of(Group::Leader), voters: of(Group::Voters), learners: of(Group::Learners) })
    }

    /// Since an earlier count.
    pub fn since(&self, earlier: &Self) -> Self {
        self.combine(earlier, |now, then| now - then)
    }

    /// A second.
    pub fn over(&self, time: Duration) -> Self {
        self.combine(self, |part, _| part / time.as_secs_f64())
    }

    fn combine(&self, other: &Self, combined: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            leader: combined(self.leader, other.leader),
            voters: combined(self.voters, other.voters),
            learners: combined(self.learners, other.learners),
        }
    }
}
