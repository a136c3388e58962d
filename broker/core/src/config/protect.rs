//! Configs that protect or keep data: what Esker does not serve of them is refused, never ignored.
//!
//! A config that only tunes may be accepted without effect. An authorizer, a key store or tiered storage may not: the
//! operator would believe in a protection that is not there. Rows of the table with the flag `protects` are such configs;
//! the check no longer applies once such a row has the state `acts`.

use super::table::ConfigKey;
use super::validate::canonical;

/// Why `value` must be refused: it requests a protection that is not served. `None` if it requests nothing, or the protection is served.
pub fn unserved_protection(key: &ConfigKey, value: &str) -> Option<&'static str> {
    let harmless = key.harmless.filter(|_| !key.acts)?;
    let value = canonical(key, value);
    (!value.is_empty() && value != harmless).then(|| missing(key.name))
}

/// What a broker lacks that does not serve the config.
fn missing(name: &str) -> &'static str {
    match name {
        "authorizer.class.name" | "super.users" | "allow.everyone.if.no.acl.found" | "principal.builder.class" => {
            "there is no authorizer, every client may read, change and delete everything"
        }
        "connections.max.reauth.ms" | "delegation.token.secret.key" => "SASL is not served, clients are anonymous",
        "security.inter.broker.protocol" | "security.providers" => "every connection is PLAINTEXT",
        "client.quota.callback.class" => "client quotas are not served",
        "config.providers" => "values of the form ${provider:path:key} are not resolved",
        _ if name.starts_with("sasl.") => "SASL is not served, clients are anonymous",
        _ if name.starts_with("ssl.") => "TLS is not served, connections are not encrypted",
        _ if name.ends_with(".policy.class.name") => "no policy is loaded, requests that it forbids are accepted",
        _ if name.starts_with("remote.") => "tiered storage is not served, old segments are only deleted",
        _ => "this limit is not enforced",
    }
}

/// Names that Kafka 4 (or 3) removed, with what took their place. A name that ends with a dot is a prefix.
const REMOVED: &[(&str, &str)] = &[
    ("zookeeper.", "clusters have no ZooKeeper any more"),
    ("password.encoder.", "passwords are not kept in ZooKeeper any more"),
    ("inter.broker.protocol.version", "features took its place (kafka-features.sh)"),
    ("log.message.format.version", "records are always written in format v2"),
    ("log.message.downconversion.enable", "records are always sent in format v2"),
    ("message.format.version", "records are always written in format v2"),
    ("message.downconversion.enable", "records are always sent in format v2"),
    ("log.message.timestamp.difference.max.ms", "use log.message.timestamp.{before,after}.max.ms"),
    ("message.timestamp.difference.max.ms", "use message.timestamp.before.max.ms and message.timestamp.after.max.ms"),
    ("broker.id.generation.enable", "set node.id"),
    ("reserved.broker.max.id", "set node.id"),
    ("control.plane.listener.name", "use controller.listener.names"),
    ("delegation.token.master.key", "use delegation.token.secret.key"),
    ("offsets.commit.required.acks", "commits wait for all in-sync replicas"),
    ("host.name", "use listeners"),
    ("port", "use listeners"),
    ("advertised.host.name", "use advertised.listeners"),
    ("advertised.port", "use advertised.listeners"),
    ("quota.producer.default", "client quotas took its place (kafka-configs.sh)"),
    ("quota.consumer.default", "client quotas took its place (kafka-configs.sh)"),
    ("auto.include.jmx.reporter", "use metric.reporters"),
    ("leader.imbalance.per.broker.percentage", "leaders are balanced whatever the percentage"),
    ("controlled.shutdown.max.retries", "a broker asks its controller once to stop"),
    ("controlled.shutdown.retry.backoff.ms", "a broker asks its controller once to stop"),
    ("group.coordinator.new.enable", "use group.coordinator.rebalance.protocols"),
    ("eligible.leader.replicas.enable", "the feature eligible.leader.replicas.version took its place"),
    ("unstable.metadata.versions.enable", "use unstable.feature.versions.enable"),
];

/// What took the place of a config that Kafka had and removed; `None` for any other name.
pub fn removed(name: &str) -> Option<&'static str> {
    let is = |known: &str| if known.ends_with('.') { name.starts_with(known) } else { name == known };
    REMOVED.iter().find(|(known, _)| is(known)).map(|(_, instead)| *instead)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Scope, keys, lookup};

    #[test]
    fn what_protects_and_is_not_served_is_refused_and_harmless_values_are_not() {
        for (name, value, refused) in [
            ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer", true),
            ("authorizer.class.name", "", false),
            ("super.users", "User:admin", true),
            ("allow.everyone.if.no.acl.found", "false", true),
            ("allow.everyone.if.no.acl.found", "TRUE", false),
            ("sasl.enabled.mechanisms", "GSSAPI", true),
            ("sasl.enabled.mechanisms", " , ", false),
            ("sasl.mechanism.inter.broker.protocol", "GSSAPI", false),
            ("sasl.mechanism.inter.broker.protocol", "PLAIN", true),
            ("sasl.jaas.config", "x", true),
            ("security.inter.broker.protocol", "PLAINTEXT", false),
            ("security.inter.broker.protocol", "SASL_SSL", true),
            ("ssl.client.auth", "none", false),
            ("ssl.client.auth", "required", true),
            ("ssl.endpoint.identification.algorithm", "", false),
            ("ssl.keystore.location", "/k.p12", true),
            ("connections.max.reauth.ms", "0", false),
            ("connections.max.reauth.ms", "1000", true),
            ("create.topic.policy.class.name", "P", true),
            ("client.quota.callback.class", "Q", true),
            ("config.providers", "file", true),
            ("remote.log.storage.system.enable", "False", false),
            ("remote.log.storage.system.enable", "true", true),
            ("max.connection.creation.rate", "2147483647", false),
            ("max.connection.creation.rate", "5", true),
            ("num.network.threads", "8", false),
            ("min.insync.replicas", "2", false),
        ] {
            let key = lookup(Scope::Broker, name).unwrap();
            assert_eq!(unserved_protection(key, value).is_some(), refused, "{name}={value}");
        }
        let mut served = lookup(Scope::Broker, "authorizer.class.name").unwrap().clone();
        served.acts = true;
        assert_eq!(unserved_protection(&served, "A"), None);
    }

    /// A new row of these families must not slip in as one that only tunes.
    #[test]
    fn every_row_of_a_family_that_protects_has_the_flag() {
        let families = ["sasl.", "ssl.", "security.", "authorizer.", "super."];
        for key in keys().iter().filter(|key| key.scope == Scope::Broker) {
            let expected = families.iter().any(|family| key.name.starts_with(family))
                || key.name.ends_with(".policy.class.name")
                || key.name.ends_with(".secret.key");
            assert!(!expected || key.harmless.is_some(), "{} protects", key.name);
            if let Some(default) = key.default.filter(|_| key.harmless == key.default) {
                assert_eq!(unserved_protection(key, default), None, "the default of {}", key.name);
            }
        }
    }

    #[test]
    fn a_removed_config_is_not_in_the_table() {
        for (name, _) in REMOVED {
            let known =
                keys().iter().find(|key| key.name == *name || name.ends_with('.') && key.name.starts_with(name));
            assert_eq!(known, None);
        }
        assert!(removed("zookeeper.connect").is_some() && removed("inter.broker.protocol.version").is_some());
        assert!(removed("ports").is_none() && removed("zookeeper").is_none());
    }
}
