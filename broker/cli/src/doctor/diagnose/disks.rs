//! The check of disks: failed log dirs, and room that runs out.

use super::super::facts::{DirFacts, Facts};
use super::super::finding::{Check, Finding};

const CHECK: Check = Check::Disks;
/// Free percent of a disk.
const WARN_PERCENT: f64 = 15.0;
const FULL_PERCENT: f64 = 5.0;
const WARN_DAYS: f64 = 7.0;
const FULL_DAYS: f64 = 1.0;
const DAY_SECONDS: f64 = 86_400.0;
const GIB: f64 = (1_u64 << 30) as f64;
const MORE_ROOM: &str =
    "lower retention (retention.ms, retention.bytes), add disk, or move replicas: `esker cluster rebalance`";

/// Log dirs that failed, and disks that are nearly full or will be soon.
pub(super) fn check_disks(facts: &Facts) -> Vec<Finding> {
    let (mut findings, mut unknown, mut known) = (Vec::new(), Vec::new(), Vec::new());
    for broker in facts.brokers.iter().filter(|broker| !broker.fenced) {
        match &broker.log_dirs {
            Err(why) => unknown.push(format!("broker {}: {why}", broker.id)),
            Ok(dirs) => {
                for dir in dirs {
                    let name = format!("{} of broker {}", dir.path, broker.id);
                    match judge(dir, &name) {
                        Some(finding) => findings.push(finding),
                        None => known.extend(dir.space.map(free_percent)),
                    }
                    if dir.space.is_none() && !dir.offline {
                        unknown.push(format!("{name}: the broker does not return the size of the disk"));
                    }
                }
            }
        }
    }
    if !unknown.is_empty() {
        findings.push(Finding::skipped(CHECK, unknown.join("; ")));
    }
    if let (true, Some(least)) = (findings.is_empty(), known.iter().copied().reduce(f64::min)) {
        let text = format!("all {} log dirs are online; the fullest disk has {least:.0} % free", known.len());
        findings.push(Finding::ok(CHECK, text));
    }
    if findings.is_empty() {
        findings.push(Finding::skipped(CHECK, "no broker returned its log dirs"));
    }
    findings
}

fn free_percent((total, free): (u64, u64)) -> f64 {
    if total == 0 { 100.0 } else { free as f64 * 100.0 / total as f64 }
}

fn judge(dir: &DirFacts, name: &str) -> Option<Finding> {
    if dir.offline {
        let text = format!("log dir {name} has failed: its replicas are offline");
        let advice = "see the broker's log for the disk error, replace the disk, and restart the broker";
        return Some(Finding::error(CHECK, text, advice));
    }
    let (_, free) = dir.space?;
    let percent = free_percent(dir.space?);
    let days = dir.fill_rate.filter(|rate| *rate > 0.0).map(|rate| free as f64 / rate / DAY_SECONDS);
    let left = days.map(|days| format!(", full in {days:.1} days at the rate of the sample")).unwrap_or_default();
    let text = format!("{name} has {percent:.1} % free ({:.1} GiB){left}", free as f64 / GIB);
    if percent < FULL_PERCENT || days.is_some_and(|days| days < FULL_DAYS) {
        return Some(Finding::error(CHECK, text, MORE_ROOM));
    }
    let soon = percent < WARN_PERCENT || days.is_some_and(|days| days < WARN_DAYS);
    soon.then(|| Finding::warning(CHECK, text, MORE_ROOM))
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Severity;
    use super::super::test_facts::{assert_worst, healthy};
    use super::*;

    const SIZE: u64 = 1000 << 30;

    #[test]
    fn disks_by_room_and_rate() {
        let day_rate = |days: f64, free: u64| Some(free as f64 / days / DAY_SECONDS);
        for (free, rate, severity, parts) in [
            (SIZE / 2, None, Severity::Ok, &["3 log dirs", "50 % free"][..]),
            (SIZE / 10, None, Severity::Warning, &["/data of broker 2", "10.0 % free (100.0 GiB)", "retention"]),
            (SIZE / 100, None, Severity::Error, &["1.0 % free"]),
            (SIZE / 2, day_rate(3.0, SIZE / 2), Severity::Warning, &["full in 3.0 days"]),
            (SIZE / 2, day_rate(0.5, SIZE / 2), Severity::Error, &["full in 0.5 days"]),
            (SIZE / 2, day_rate(300.0, SIZE / 2), Severity::Ok, &[]),
            (SIZE / 2, Some(-5.0), Severity::Ok, &[]),
        ] {
            let mut facts = healthy();
            let dir = DirFacts { path: "/data".to_owned(), space: Some((SIZE, free)), fill_rate: rate, offline: false };
            facts.brokers[1].log_dirs = Ok(vec![dir]);
            assert_worst(&check_disks(&facts), severity, parts);
        }
    }

    #[test]
    fn failed_and_unknown_dirs() {
        let mut facts = healthy();
        let dir = DirFacts { path: "/data".to_owned(), offline: true, ..DirFacts::default() };
        facts.brokers[0].log_dirs = Ok(vec![dir.clone()]);
        assert_worst(&check_disks(&facts), Severity::Error, &["/data of broker 1 has failed"]);
        facts.brokers[0].log_dirs = Ok(vec![DirFacts { offline: false, ..dir }]);
        assert_worst(&check_disks(&facts), Severity::Skipped, &["size of the disk"]);
        facts.brokers[0].log_dirs = Err("it does not answer".to_owned());
        assert_worst(&check_disks(&facts), Severity::Skipped, &["broker 1: it does not answer"]);
    }
}
