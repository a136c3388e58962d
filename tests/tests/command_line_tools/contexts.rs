//! `esker context`.

use std::path::Path;
use std::process::Output;

use esker_tests::Esker;
use serde_json::Value;

use super::{command, stderr};

fn run_in(folder: &Path, arguments: &[&str], bootstrap: Option<&str>) -> Output {
    let mut command = command(arguments);
    command.env("XDG_CONFIG_HOME", folder);
    if let Some(bootstrap) = bootstrap {
        command.env("ESKER_BOOTSTRAP", bootstrap);
    }
    command.output().unwrap()
}

#[test]
fn commands_go_to_the_cluster_of_the_flag_the_environment_or_the_context() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = [(); 2].map(|()| Esker::spawn(&["serve", "--ephemeral"]));
    let [a, b] = [&first, &second].map(|esker| esker.kafka.to_string());
    let run = |arguments: &[&str], bootstrap: Option<&str>| run_in(folder.path(), arguments, bootstrap);
    let good = |arguments: &[&str], bootstrap: Option<&str>| {
        let output = run(arguments, bootstrap);
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let port = |arguments: &[&str], bootstrap: Option<&str>| -> u16 {
        let broker: Value =
            serde_json::from_str(&good(&[arguments, &["broker", "--json"]].concat(), bootstrap)).unwrap();
        broker["brokers"][0]["port"].as_u64().unwrap().try_into().unwrap()
    };
    let (first_port, second_port) = (first.kafka.port(), second.kafka.port());
    assert_eq!(run(&["context", "use", "one"], None).status.code(), Some(2));
    assert_eq!(run(&["context", "set", "one"], None).status.code(), Some(2), "it has no address");
    assert_eq!(good(&["context", "set", "one", "-b", &a, "--client-id", "me"], None), "set one\n");
    good(&["context", "set", "two", "-b", &b, "--request-timeout", "7s"], None);
    assert_eq!(port(&[], None), first_port, "the first context is the current one");
    assert_eq!(good(&["context", "use", "two"], None), "selected two\n");
    assert_eq!(port(&[], None), second_port);
    assert_eq!(port(&[], Some(&a)), first_port, "the environment beats the context");
    let flag = |flag: &str, value: &str, bootstrap| -> u16 {
        let broker = good(&["broker", "--json", flag, value], bootstrap);
        let broker: Value = serde_json::from_str(&broker).unwrap();
        broker["brokers"][0]["port"].as_u64().unwrap().try_into().unwrap()
    };
    assert_eq!(flag("--context", "two", Some(&a)), second_port, "a flag beats the environment");
    assert_eq!(flag("--bootstrap", &a, Some(&b)), first_port);
    let listed: Value = serde_json::from_str(&good(&["context", "list", "--json"], None)).unwrap();
    assert_eq!(
        (&listed[0]["name"], &listed[0]["client_id"], &listed[0]["current"]),
        (&"one".into(), &"me".into(), &false.into())
    );
    assert_eq!((&listed[1]["request_timeout_ms"], &listed[1]["current"]), (&7000.into(), &true.into()));
    assert!(good(&["context", "list"], None).contains("* "));
    good(&["context", "remove", "two"], None);
    let unknown = run(&["broker", "--context", "two"], None);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("there are one"), "{}", stderr(&unknown));
    std::fs::write(folder.path().join("esker/contexts.json"), "{").unwrap();
    let broken = run(&["broker"], None);
    assert_eq!(broken.status.code(), Some(1));
    assert!(stderr(&broken).contains("contexts.json"), "{}", stderr(&broken));
    assert_eq!(flag("--bootstrap", &a, None), first_port, "a flag alone needs no file");
}
