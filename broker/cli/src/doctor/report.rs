//! The report of the doctor, for people and as JSON.

use serde_json::{Value, json};

use super::facts::Facts;
use super::finding::{Finding, Severity};
use esker_records::error::CliError;
use esker_records::output::print_line;

/// Prints all findings, the worst of each check not hidden by the others.
pub(super) fn print(facts: &Facts, findings: &[Finding], as_json: bool) -> Result<(), CliError> {
    if as_json {
        return Ok(print_line(&serde_json::to_string_pretty(&to_json(facts, findings))?)?);
    }
    let live = facts.brokers.iter().filter(|broker| !broker.fenced).count();
    let partitions: usize = facts.topics.iter().map(|topic| topic.partitions.len()).sum();
    print_line(&format!(
        "cluster {}  brokers={live} of {}  topics={}  partitions={partitions}",
        facts.cluster_id,
        facts.brokers.len(),
        facts.topics.len()
    ))?;
    for finding in findings {
        print_line(&format!("{:<8} {:<13} {}", finding.severity.name(), finding.check.name(), finding.text))?;
        if !finding.advice.is_empty() {
            print_line(&format!("{:<22} to do: {}", "", finding.advice))?;
        }
    }
    Ok(())
}

fn to_json(facts: &Facts, findings: &[Finding]) -> Value {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let row = |finding: &Finding| {
        json!({
            "check": finding.check.name(), "severity": finding.severity.name(), "text": finding.text,
            "advice": Some(finding.advice.as_str()).filter(|advice| !advice.is_empty()),
        })
    };
    json!({
        "cluster_id": facts.cluster_id, "errors": count(Severity::Error), "warnings": count(Severity::Warning),
        "skipped": count(Severity::Skipped), "findings": findings.iter().map(row).collect::<Vec<_>>(),
    })
}
