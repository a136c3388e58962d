//! The check of the voters of the metadata quorum.

use super::super::facts::{Facts, QuorumFacts, VoterFacts};
use super::super::finding::{Check, Finding, name_some};

const CHECK: Check = Check::Voters;
/// A voter that the leader has not heard of for so long counts as lost.
const LOST_MS: i64 = 10_000;
/// Entries of the metadata log that a voter may lack.
const BEHIND: i64 = 1000;
/// Brokers in a cluster that should have more than one voter.
const REPLICATED_CLUSTER: usize = 3;

/// Voters that are lost or behind, and counts that tolerate fewer failures than they could.
pub(super) fn check_voters(facts: &Facts) -> Vec<Finding> {
    let quorum = match &facts.quorum {
        Ok(quorum) => quorum,
        Err(why) => return vec![Finding::skipped(CHECK, why.clone())],
    };
    let count = quorum.voters.len();
    let majority = count / 2 + 1;
    if quorum.leader < 0 || count == 0 {
        let text = "the metadata quorum has no leader: nothing can be created, and no new leaders are elected";
        let advice = "start a majority of the voters; if it is lost for good, see `esker cluster recover --help`";
        return vec![Finding::error(CHECK, text, advice)];
    }
    let (mut findings, mut healthy) = (Vec::new(), 0);
    for voter in &quorum.voters {
        match judge(facts, quorum, voter) {
            Some(finding) => findings.push(finding),
            None => healthy += 1,
        }
    }
    if healthy == majority && count > 1 && healthy < count {
        let text = format!(
            "{healthy} of {count} voters are healthy, and {majority} are needed: one more loss stops the quorum"
        );
        findings.push(Finding::error(CHECK, text, "bring the lost voters back before any other work on the cluster"));
    } else if healthy < majority {
        let text = format!("only {healthy} of {count} voters are healthy, and {majority} are needed");
        findings.push(Finding::error(CHECK, text, "bring the lost voters back"));
    }
    if count.is_multiple_of(2) {
        let text = format!("{count} voters tolerate no more failures than {} do", count - 1);
        let advice = "add or remove a voter: `esker cluster voters --help`";
        findings.push(Finding::warning(CHECK, text, advice));
    }
    if count == 1 && facts.brokers.len() >= REPLICATED_CLUSTER {
        let text = format!("{} brokers have one voter: without it the cluster cannot change", facts.brokers.len());
        findings.push(Finding::warning(CHECK, text, "have three voters: `esker cluster voters add NODE_ID`"));
    }
    if findings.is_empty() {
        let ids: Vec<_> = quorum.voters.iter().map(|voter| voter.id.to_string()).collect();
        let tolerated = count - majority;
        let text = format!("healthy voters: {} (leader {}); {tolerated} may fail", name_some(&ids), quorum.leader);
        findings.push(Finding::ok(CHECK, text));
    }
    findings
}

fn judge(facts: &Facts, quorum: &QuorumFacts, voter: &VoterFacts) -> Option<Finding> {
    if voter.id == quorum.leader {
        return None;
    }
    let id = voter.id;
    let fenced = facts.broker(id).is_some_and(|broker| broker.fenced);
    // The times are of the leader's clock, whose own entry is the newest.
    let newest = quorum.voters.iter().filter_map(|voter| voter.last_contact_ms).max();
    let silent = newest.zip(voter.last_contact_ms).map(|(newest, last)| newest.saturating_sub(last));
    if fenced || silent.is_some_and(|silent| silent > LOST_MS) || voter.log_end.is_none() {
        let since = silent.map(|ms| format!(" for {} s", ms / 1000)).unwrap_or_default();
        let text = format!("the leader of the quorum has not heard of voter {id}{since}");
        return Some(Finding::warning(
            CHECK,
            text,
            format!("start node {id}, or remove its vote if it is gone for good"),
        ));
    }
    let behind = quorum.log_end.saturating_sub(voter.log_end?);
    (behind > BEHIND).then(|| {
        let text = format!("voter {id} lacks {behind} entries of the metadata log");
        Finding::warning(
            CHECK,
            text,
            "see its log, its disk and its network; it cannot become the leader before it caught up",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Severity;
    use super::super::test_facts::{assert_worst, healthy};
    use super::*;

    fn facts_with(change: impl FnOnce(&mut QuorumFacts)) -> Facts {
        let mut facts = healthy();
        change(facts.quorum.as_mut().unwrap());
        facts
    }

    #[test]
    fn healthy_voters() {
        assert_worst(&check_voters(&healthy()), Severity::Ok, &["1, 2, 3", "leader 1", "1 may fail"]);
        let mut single = facts_with(|quorum| quorum.voters.truncate(1));
        assert_worst(&check_voters(&single), Severity::Warning, &["one voter", "voters add"]);
        single.brokers.truncate(1);
        assert_worst(&check_voters(&single), Severity::Ok, &["0 may fail"]);
    }

    #[test]
    fn voters_at_risk() {
        let lost = |quorum: &mut QuorumFacts| quorum.voters[2].last_contact_ms = Some(1_000_000 - LOST_MS - 1);
        assert_worst(&check_voters(&facts_with(lost)), Severity::Error, &["2 of 3 voters", "one more loss"]);
        let both = facts_with(|quorum| {
            lost(quorum);
            quorum.voters[1].log_end = None;
        });
        assert_worst(&check_voters(&both), Severity::Error, &["only 1 of 3"]);
        let behind = facts_with(|quorum| quorum.log_end = BEHIND + 51);
        assert!(check_voters(&behind).iter().any(|finding| finding.text.contains("voter 2 lacks 1001")));
        let mut fenced = healthy();
        fenced.brokers[1].fenced = true;
        assert!(check_voters(&fenced).iter().any(|finding| finding.text.contains("voter 2")));
        let even = facts_with(|quorum| quorum.voters.truncate(2));
        assert_worst(&check_voters(&even), Severity::Warning, &["2 voters tolerate no more failures than 1"]);
        let none = facts_with(|quorum| quorum.leader = -1);
        assert_worst(&check_voters(&none), Severity::Error, &["no leader", "recover"]);
        let mut skipped = healthy();
        skipped.quorum = Err("the brokers do not serve DescribeQuorum".to_owned());
        assert_worst(&check_voters(&skipped), Severity::Skipped, &["DescribeQuorum"]);
    }
}
