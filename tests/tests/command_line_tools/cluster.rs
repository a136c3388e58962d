//! `esker cluster` with `--json`.

use esker_tests::cluster::{Cluster, wait_until};
use serde_json::Value;

use super::{good, json, run};

#[test]
fn what_was_done_to_a_node_is_printed_as_json() {
    let mut cluster = Cluster::start(3);
    let at = cluster.address(0);
    let lost = cluster.node_id(2);
    let id = lost.to_string();
    let outcome = |command: &[&str]| -> String {
        let done = json(at, &[&["cluster"], command, &[id.as_str()]].concat());
        assert_eq!(done["id"], lost);
        done["outcome"].as_str().unwrap().to_owned()
    };
    assert_eq!(outcome(&["cordon"]), "cordoned");
    assert_eq!(outcome(&["uncordon"]), "uncordoned");
    assert_eq!(outcome(&["voters", "remove"]), "observer");
    assert_eq!(outcome(&["voters", "add"]), "voter");
    assert_eq!(outcome(&["voters", "remove"]), "observer");
    let output = run(at, &["cluster", "unregister", &id]);
    let refused = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && refused.contains("it runs") && refused.contains("--force"), "{refused}");
    cluster.kill(2);
    wait_until("the broker is unregistered", || {
        let output = run(at, &["cluster", "unregister", &id, "--json"]);
        let done: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        done["outcome"] == "unregistered"
    });
    assert!(good(at, &["cluster", "cordon", &cluster.node_id(0).to_string()]).contains("is cordoned"));
}
