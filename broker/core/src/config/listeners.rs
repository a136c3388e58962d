//! Which of its listeners a node is called at by the other nodes of the cluster.

/// The listener that `security.inter.broker.protocol` names by default, as in Kafka; no other protocol is served.
const DEFAULT: &str = "PLAINTEXT";

/// The listener for the traffic between nodes: the one that `inter.broker.listener.name` names (`given`), among those that serve clients. Without
/// a name it is the listener PLAINTEXT, or else the first. `Ok(None)` if there is no listener. `for_nodes` are the listeners of
/// `controller.listener.names`, which are not advertised.
pub fn inter_broker_listener<'a>(
    given: Option<&str>,
    listeners: &[&'a str],
    for_nodes: &[&str],
) -> Result<Option<&'a str>, String> {
    let find = |name: &str| listeners.iter().copied().find(|listener| listener.eq_ignore_ascii_case(name));
    let Some(name) = given.map(str::trim).filter(|name| !name.is_empty()) else {
        return Ok(find(DEFAULT).or_else(|| listeners.first().copied()));
    };
    if let Some(found) = find(name) {
        return Ok(Some(found));
    }
    let why = match for_nodes.iter().any(|listener| listener.eq_ignore_ascii_case(name)) {
        true => format!("{name} is in controller.listener.names"),
        false => format!("{name} is not in listeners"),
    };
    let options = listeners.join(", ");
    Err(format!(
        "inter.broker.listener.name must be a listener name defined in advertised.listeners, and {why}: name one of {options}, or add {name} to listeners and advertised.listeners"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_nodes_call_at_the_named_listener_or_at_kafkas_default() {
        let two: &[&str] = &["EXTERNAL", "INTERNAL"];
        for (given, listeners, expected, why) in [
            (Some("INTERNAL"), two, Some("INTERNAL"), "the named one"),
            (Some("EXTERNAL"), two, Some("EXTERNAL"), "the named one, which is the first"),
            (Some(" internal "), two, Some("INTERNAL"), "names of listeners have no case"),
            (None, two, Some("EXTERNAL"), "the first, where none is PLAINTEXT"),
            (Some(""), two, Some("EXTERNAL"), "an empty name is none"),
            (None, &["EXTERNAL", "PLAINTEXT"], Some("PLAINTEXT"), "the default of security.inter.broker.protocol"),
            (Some("EXTERNAL"), &["EXTERNAL", "PLAINTEXT"], Some("EXTERNAL"), "a name goes before the default"),
            (None, &[], None, "no listeners"),
        ] {
            assert_eq!(inter_broker_listener(given, listeners, &["CONTROLLER"]), Ok(expected), "{why}");
        }
    }

    #[test]
    fn a_name_that_is_no_listener_of_clients_is_refused_with_what_to_do() {
        for (given, parts) in [
            ("INSIDE", ["INSIDE is not in listeners", "name one of EXTERNAL, INTERNAL", "add INSIDE to listeners"]),
            (
                "controller",
                ["controller is in controller.listener.names", "name one of EXTERNAL", "defined in advertised"],
            ),
        ] {
            let why = inter_broker_listener(Some(given), &["EXTERNAL", "INTERNAL"], &["CONTROLLER"]).unwrap_err();
            parts.iter().for_each(|part| assert!(why.contains(part), "{part}: {why}"));
        }
    }
}
