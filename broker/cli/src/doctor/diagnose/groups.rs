//! The check of groups that do not advance.

use super::super::facts::Facts;
use super::super::finding::{Check, Finding, name_some};

const CHECK: Check = Check::Groups;

/// Groups that rebalance for long, and groups with lag and without members.
pub(super) fn check_groups(facts: &Facts) -> Vec<Finding> {
    let groups = match &facts.groups {
        Ok(groups) => groups,
        Err(why) => return vec![Finding::skipped(CHECK, why.clone())],
    };
    let mut findings = Vec::new();
    for group in groups {
        if let Some(seconds) = group.rebalancing_seconds {
            let (id, state, members) = (&group.id, &group.state, group.members);
            let text =
                format!("group '{id}' with {members} members is rebalancing ({state}) for more than {seconds} s");
            let advice = "a member does not answer in time: see max.poll.interval.ms, and the logs of its consumers";
            findings.push(Finding::warning(CHECK, text, advice));
        }
    }
    let idle: Vec<_> = groups
        .iter()
        .filter(|group| group.members == 0 && group.lag > 0)
        .map(|group| format!("{} (lag {})", group.id, group.lag))
        .collect();
    if !idle.is_empty() {
        let text = format!("groups with lag and without members: {}", name_some(&idle));
        let advice = "start their consumers, or delete groups that are no longer used: `esker group delete`";
        findings.push(Finding::warning(CHECK, text, advice));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, format!("none of {} groups is stuck", groups.len())));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::GroupFacts;
    use super::super::super::finding::Severity;
    use super::super::test_facts::{assert_worst, healthy};
    use super::*;

    #[test]
    fn stuck_groups() {
        let group = GroupFacts { id: "g".to_owned(), state: "Stable".to_owned(), members: 2, ..GroupFacts::default() };
        let idle = GroupFacts { members: 0, lag: 7, state: "Empty".to_owned(), ..group.clone() };
        let rebalancing =
            GroupFacts { rebalancing_seconds: Some(5), state: "PreparingRebalance".to_owned(), ..group.clone() };
        for (group, severity, parts) in [
            (GroupFacts { lag: 7, ..group }, Severity::Ok, &["none of 1 groups"][..]),
            (GroupFacts { lag: 0, ..idle.clone() }, Severity::Ok, &[]),
            (idle, Severity::Warning, &["g (lag 7)", "esker group delete"]),
            (rebalancing, Severity::Warning, &["'g' with 2 members is rebalancing (PreparingRebalance)", "5 s"]),
        ] {
            let mut facts = healthy();
            facts.groups = Ok(vec![group]);
            assert_worst(&check_groups(&facts), severity, parts);
        }
        let mut facts = healthy();
        facts.groups = Err("no answer".to_owned());
        assert_worst(&check_groups(&facts), Severity::Skipped, &["no answer"]);
    }
}
