//! Variables of Apache Kafka's container image, so that a compose file or a manifest for it starts Esker as it is.

/// The name in `server.properties` of what a variable sets: `KAFKA_LOG_DIRS` is `log.dirs`. Of underscores, one is a dot, two are an
/// underscore and three a hyphen.
pub(super) fn property_name(variable: &str) -> Option<String> {
    let words = variable.strip_prefix("KAFKA_")?.to_ascii_lowercase();
    Some(words.replace("___", "-").replace("__", "\0").replace('_', ".").replace('\0', "_"))
}

#[cfg(test)]
mod tests {
    use super::property_name;

    #[test]
    fn underscores_stand_for_dots_underscores_and_hyphens() {
        for (variable, name) in [
            ("KAFKA_LOG_DIRS", Some("log.dirs")),
            ("KAFKA_NODE_ID", Some("node.id")),
            ("KAFKA_A__B_C", Some("a_b.c")),
            (
                "KAFKA_LISTENER_NAME_X_SCRAM___SHA___512_SASL_JAAS_CONFIG",
                Some("listener.name.x.scram-sha-512.sasl.jaas.config"),
            ),
            ("KAFKA_A____B", Some("a-.b")),
            ("CLUSTER_ID", None),
            ("ESKER_LOG_DIRS", None),
        ] {
            assert_eq!(property_name(variable).as_deref(), name, "{variable}");
        }
    }
}
