//! The checks of what the HTTP ports return: clocks and open files.

use super::super::facts::{Facts, HttpFacts, NodeFacts};
use super::super::finding::{Check, Finding};

const WITHOUT_HTTP: &str = "give the HTTP addresses of the nodes with --http HOST:PORT,HOST:PORT";
/// Milliseconds between two clocks.
const WARN_SKEW_MS: i64 = 1000;
const WRONG_SKEW_MS: i64 = 30_000;
/// Open files, as a share of those that may be open.
const WARN_FILES: f64 = 0.8;
const FULL_FILES: f64 = 0.95;
/// A limit below this is too low for a broker with many partitions.
const FEW_FILES: f64 = 10_000.0;

/// Clocks that differ from this client's: retention, timestamps and timeouts depend on them.
pub(super) fn check_clocks(facts: &Facts) -> Vec<Finding> {
    const CHECK: Check = Check::Clocks;
    let advice =
        "synchronize the clocks of nodes and clients (chrony, NTP): record timestamps and retention depend on them";
    let judge = |node: &NodeFacts, answer: &HttpFacts| {
        let (least, most) = answer.clock_ahead_ms?;
        // The clocks may agree anywhere within the range.
        let skew = if least > 0 { least } else { most.min(0) };
        let text = || {
            let side = if skew > 0 { "ahead of" } else { "behind" };
            format!(
                "the clock of {} is {:.1} s {side} this client's",
                node.address,
                skew.unsigned_abs() as f64 / 1000.0
            )
        };
        match skew.abs() {
            distance if distance > WRONG_SKEW_MS => Some(Finding::error(CHECK, text(), advice)),
            distance if distance > WARN_SKEW_MS => Some(Finding::warning(CHECK, text(), advice)),
            _ => None,
        }
    };
    let all_agree = |count| format!("the clocks of {count} nodes and of this client agree to a second");
    check_nodes(facts, CHECK, |answer| answer.clock_ahead_ms.is_some(), judge, all_agree)
}

/// Nodes that are near their limit of open files.
pub(super) fn check_files(facts: &Facts) -> Vec<Finding> {
    const CHECK: Check = Check::Files;
    let advice = "raise the limit of open files (LimitNOFILE= in systemd, ulimit -n) and restart the node";
    let judge = |node: &NodeFacts, answer: &HttpFacts| {
        let (open, most) = (answer.open_files?, answer.max_files?);
        let text = format!("{} has {open} of {most} files open", node.address);
        let share = if most > 0.0 { open / most } else { 0.0 };
        match share {
            share if share > FULL_FILES => Some(Finding::error(CHECK, text, advice)),
            share if share > WARN_FILES || most < FEW_FILES => Some(Finding::warning(CHECK, text, advice)),
            _ => None,
        }
    };
    let all_low = |count| format!("{count} nodes are far from their limits of open files");
    let has_files = |answer: &HttpFacts| answer.open_files.is_some() && answer.max_files.is_some();
    check_nodes(facts, CHECK, has_files, judge, all_low)
}

fn check_nodes(
    facts: &Facts,
    check: Check,
    is_known: impl Fn(&HttpFacts) -> bool,
    judge: impl Fn(&NodeFacts, &HttpFacts) -> Option<Finding>,
    all_well: impl Fn(usize) -> String,
) -> Vec<Finding> {
    if facts.nodes.is_empty() {
        return vec![Finding::skipped(check, WITHOUT_HTTP)];
    }
    let (mut findings, mut checked) = (Vec::new(), 0);
    for node in &facts.nodes {
        match &node.answer {
            Err(why) => findings.push(Finding::skipped(check, format!("{}: {why}", node.address))),
            Ok(answer) if !is_known(answer) => {
                findings.push(Finding::skipped(check, format!("{} does not return it", node.address)));
            }
            Ok(answer) => {
                checked += 1;
                findings.extend(judge(node, answer));
            }
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(check, all_well(checked)));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Severity;
    use super::super::test_facts::{assert_worst, healthy};
    use super::*;

    fn facts_with(answer: Result<HttpFacts, String>) -> Facts {
        let mut facts = healthy();
        facts.nodes = vec![NodeFacts { address: "node-1:9644".to_owned(), answer }];
        facts
    }

    #[test]
    fn clocks_that_differ() {
        for (ahead, severity, parts) in [
            ((-900, 100), Severity::Ok, &["1 nodes"][..]),
            ((900, 1900), Severity::Ok, &[]),
            ((1500, 2500), Severity::Warning, &["node-1:9644 is 1.5 s ahead"]),
            ((-9000, -8000), Severity::Warning, &["8.0 s behind"]),
            ((-99_000, -98_000), Severity::Error, &["98.0 s behind", "NTP"]),
        ] {
            let answer = HttpFacts { clock_ahead_ms: Some(ahead), ..HttpFacts::default() };
            assert_worst(&check_clocks(&facts_with(Ok(answer))), severity, parts);
        }
        assert_worst(&check_clocks(&healthy()), Severity::Skipped, &["--http"]);
        assert_worst(
            &check_clocks(&facts_with(Err("refused".to_owned()))),
            Severity::Skipped,
            &["node-1:9644: refused"],
        );
        assert_worst(&check_clocks(&facts_with(Ok(HttpFacts::default()))), Severity::Skipped, &["does not return"]);
    }

    #[test]
    fn limits_of_open_files() {
        for (open, most, severity) in [
            (100.0, 100_000.0, Severity::Ok),
            (81_000.0, 100_000.0, Severity::Warning),
            (96_000.0, 100_000.0, Severity::Error),
            (100.0, 1024.0, Severity::Warning),
        ] {
            let answer = HttpFacts { open_files: Some(open), max_files: Some(most), ..HttpFacts::default() };
            assert_worst(&check_files(&facts_with(Ok(answer))), severity, &[]);
        }
    }
}
