//! The check of the addresses that brokers advertise.

use std::collections::BTreeMap;

use super::super::facts::{BrokerFacts, Facts, Way};
use super::super::finding::{Check, Finding};

const CHECK: Check = Check::Addresses;
const SET_LISTENERS: &str = "set advertised.listeners of the broker to an address that clients can reach";

/// Each broker must be reached at its own address: after the bootstrap, clients use no other.
pub(super) fn check_addresses(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for at in &facts.bootstrap {
        if let Err(why) = &at.reached {
            findings.push(Finding::warning(
                CHECK,
                format!("bootstrap address {} does not answer: {why}", at.address),
                "start that broker, or take the address out of the clients' bootstrap list",
            ));
        }
    }
    let from_elsewhere = facts.bootstrap.iter().any(|at| !at.is_loopback && at.reached.is_ok());
    findings.extend(facts.brokers.iter().filter_map(|broker| check_broker(broker, from_elsewhere, facts)));
    findings.extend(check_duplicates(&facts.brokers));
    if findings.is_empty() {
        let live = facts.brokers.iter().filter(|broker| !broker.fenced).count();
        findings
            .push(Finding::ok(CHECK, format!("{live} of {live} brokers are reached at the addresses they advertise")));
    }
    findings
}

fn check_broker(broker: &BrokerFacts, from_elsewhere: bool, facts: &Facts) -> Option<Finding> {
    let (id, address) = (broker.id, broker.address());
    let advertised = format!("broker {id} advertises {address}");
    let finding = match &broker.way {
        _ if ["0.0.0.0", "::", ""].contains(&broker.host.as_str()) => Finding::error(
            CHECK,
            format!("{advertised}, which names no host: clients on other hosts connect to themselves"),
            SET_LISTENERS,
        ),
        Way::Reached { only_loopback: true } if from_elsewhere => Finding::error(
            CHECK,
            format!(
                "{advertised}, which is this host itself, while the bootstrap address is another host: clients connect \
                 to themselves"
            ),
            SET_LISTENERS,
        ),
        Way::Reached { .. } | Way::NotTried => return None,
        Way::Unresolved(why) => Finding::error(
            CHECK,
            format!("{advertised}, a name that this client cannot resolve: {why}"),
            format!("{SET_LISTENERS}, or add the name to the DNS of the clients"),
        ),
        Way::Unreachable(why) => Finding::error(
            CHECK,
            format!("{advertised}, where this client gets no connection: {why}"),
            format!("{SET_LISTENERS}, and open the port in the firewalls between them"),
        ),
        Way::NoAnswer(why) => Finding::error(
            CHECK,
            format!("{advertised}, where a connection is accepted but no broker answers: {why}"),
            "check what listens there (a proxy, TLS, a paused process)",
        ),
        Way::OtherCluster(other) => Finding::error(
            CHECK,
            format!("{advertised}, where a broker of another cluster answers: {other} instead of {}", facts.cluster_id),
            SET_LISTENERS,
        ),
    };
    Some(finding)
}

fn check_duplicates(brokers: &[BrokerFacts]) -> Vec<Finding> {
    let mut by_address: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for broker in brokers.iter().filter(|broker| !broker.fenced) {
        by_address.entry(broker.address()).or_default().push(broker.id.to_string());
    }
    let shared = by_address.into_iter().filter(|(_, ids)| ids.len() > 1);
    let finding = |(address, ids): (String, Vec<String>)| {
        let text = format!("brokers {} all advertise {address}: clients reach only one of them", ids.join(", "));
        Finding::error(CHECK, text, "give each broker an address of its own in advertised.listeners")
    };
    shared.map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Severity;
    use super::super::test_facts::{assert_worst, healthy};
    use super::*;

    #[test]
    fn brokers_must_be_reached_where_they_say() {
        assert_worst(&check_addresses(&healthy()), Severity::Ok, &["3 of 3 brokers"]);
        let why = || "why".to_owned();
        for (way, parts) in [
            (Way::Unresolved(why()), &["broker 2 advertises kafka-2:9092", "resolve", "why"][..]),
            (Way::Unreachable(why()), &["no connection", "advertised.listeners"]),
            (Way::NoAnswer(why()), &["no broker answers"]),
            (Way::OtherCluster("other".to_owned()), &["other instead of cluster"]),
            (Way::Reached { only_loopback: true }, &["this host itself"]),
        ] {
            let mut facts = healthy();
            facts.brokers[1].way = way;
            assert_worst(&check_addresses(&facts), Severity::Error, parts);
        }
        let mut facts = healthy();
        facts.bootstrap[0].is_loopback = true;
        facts.brokers[1].way = Way::Reached { only_loopback: true };
        assert_worst(&check_addresses(&facts), Severity::Ok, &[]);
        facts.brokers[1].host = "0.0.0.0".to_owned();
        assert_worst(&check_addresses(&facts), Severity::Error, &["names no host"]);
    }

    #[test]
    fn shared_addresses_and_dead_bootstrap_addresses() {
        let mut facts = healthy();
        facts.brokers[1].host = "kafka-1".to_owned();
        assert_worst(&check_addresses(&facts), Severity::Error, &["brokers 1, 2", "kafka-1:9092"]);
        let mut facts = healthy();
        facts.bootstrap[0].reached = Err("refused".to_owned());
        assert_worst(&check_addresses(&facts), Severity::Warning, &["bootstrap address kafka-1:9092", "refused"]);
    }
}
