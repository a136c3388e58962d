use std::path::Path;

use super::*;

const FLAG: Origin = Origin::Flag("--set");

fn given(pairs: &[(&str, &str)]) -> Result<BrokerConfig, ConfigErrors> {
    let mut sources = Sources::default();
    pairs.iter().for_each(|(name, value)| sources.set(FLAG, name, value));
    BrokerConfig::resolve(&sources)
}

fn variables(pairs: &[(&str, &str)]) -> impl Iterator<Item = (String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>().into_iter()
}

#[test]
fn defaults() {
    let config = given(&[]).unwrap();
    assert_eq!((config.node_id, config.log_dirs.as_slice()), (1, [PathBuf::from("esker-data")].as_slice()));
    assert_eq!((config.listeners[0].host.as_str(), config.listeners[0].port), ("127.0.0.1", 9092));
    assert_eq!(config.http_listen, "127.0.0.1:9644");
    assert_eq!(config.socket_request_max_bytes, 100 << 20);
}

#[test]
fn later_sources_win() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("server.properties");
    std::fs::write(&file, "# first\nnum.partitions=2\nnode.id = 5\nlog.dirs=a,\\\n  b\n").unwrap();
    let mut sources = Sources::default();
    sources.file(&file).unwrap();
    let now = |sources: &Sources| BrokerConfig::resolve(sources).unwrap();
    assert_eq!((now(&sources).num_partitions, now(&sources).node_id, now(&sources).log_dirs.len()), (2, 5, 2));
    sources.environment(variables(&[
        ("ESKER_NUM_PARTITIONS", "3"),
        ("ESKER_DATA_DIR", "c"),
        ("ESKER_LISTEN", "127.0.0.1:7"),
        ("ESKER_LOG_FORMAT", "json"),
        ("PATH", "/bin"),
    ]));
    assert_eq!((now(&sources).num_partitions, now(&sources).node_id), (3, 5));
    assert_eq!((now(&sources).log_dirs[0].as_path(), now(&sources).listeners[0].port), (Path::new("c"), 7));
    sources.pair("num.partitions=4");
    assert_eq!(now(&sources).num_partitions, 4);
}

#[test]
fn variables_of_kafkas_container_image_are_weaker_than_eskers_own() {
    let mut sources = Sources::default();
    sources.environment(variables(&[
        ("ESKER_NUM_PARTITIONS", "3"),
        ("KAFKA_NUM_PARTITIONS", "2"),
        ("KAFKA_NODE_ID", "7"),
        ("KAFKA_PROCESS_ROLES", "broker,controller"),
        ("KAFKA_LISTENERS", "PLAINTEXT://127.0.0.1:8,CONTROLLER://127.0.0.1:9"),
        ("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER"),
        ("KAFKA_HEAP_OPTS", "-Xmx1G"),
        ("KAFKA_PORT", "tcp://10.0.0.1:9092"),
    ]));
    let config = BrokerConfig::resolve(&sources).unwrap();
    assert_eq!((config.num_partitions, config.node_id, config.listeners[0].port), (3, 7, 8));
    assert_eq!(sources.ignored_variables(), ["KAFKA_HEAP_OPTS", "KAFKA_PORT"]);
}

#[test]
fn refusals_say_where_what_and_what_is_allowed() {
    let refusal = |name: &str, value: &str| given(&[(name, value)]).unwrap_err().to_string();
    for (name, value, parts) in [
        ("num.partition", "1", &["flag --set", "num.partition=1", "did you mean num.partitions?"][..]),
        ("log.unknown.thing", "1", &["log.unknown.thing=1", "neither Kafka nor Esker"]),
        ("nodots", "1", &["neither Kafka nor Esker"]),
        ("ssl.keystore.pasword", "hush", &["ssl.keystore.pasword=[hidden]", "did you mean ssl.keystore.password?"]),
        ("zookeeper.connect", "zk:2181", &["Kafka 4 has no config zookeeper.connect any more", "ZooKeeper"]),
        ("inter.broker.protocol.version", "3.9", &["Kafka 4 has no config", "features", "remove it"]),
        (
            "num.partitions",
            "many",
            &["num.partitions=many: a whole number is needed", "allowed: [1,...]", "default: 1"],
        ),
        ("num.partitions", "0", &["at least 1"]),
        ("compression.type", "rar", &["zstd, lz4, snappy"]),
        ("log.dirs", " , ", &["log.dirs=,: at least one folder"]),
        ("log.journal.dir", "/j,/k", &["log.journal.dir=/j,/k: there are 1 log dirs and 2 journal folders"]),
        ("cordoned.log.dirs", "/none", &["cordoned.log.dirs=/none: All entries", "Missing entries: /none"]),
        ("http.listen", "9644", &["http.listen=9644", "host:port"]),
        ("process.roles", "controller", &["broker must be among the roles"]),
        ("listeners", "PLAINTEXT", &["has no port"]),
        ("listeners", "PLAINTEXT://h:99999", &["99999", "0 to 65535"]),
        ("listeners", "A://:1", &["A has no security protocol"]),
        ("listeners", "PLAINTEXT://:1,PLAINTEXT://:2", &["two listeners are named PLAINTEXT"]),
        ("listeners", "SSL://:9093", &["SSL", "PLAINTEXT only"]),
        ("listeners", "PLAINTEXT://:1,SASL_PLAINTEXT://:2", &["SASL_PLAINTEXT", "PLAINTEXT only"]),
        ("advertised.listeners", "PLAINTEXT://0.0.0.0:9092", &["cannot be advertised"]),
        ("advertised.listeners", "OTHER://h:9092", &["not in listeners"]),
        (
            "inter.broker.listener.name",
            "INSIDE",
            &[
                "inter.broker.listener.name=INSIDE: ",
                "INSIDE is not in listeners: name one of PLAINTEXT, or add INSIDE",
            ],
        ),
    ] {
        let text = refusal(name, value);
        parts.iter().for_each(|part| assert!(text.contains(part), "{name}={value}: {text}"));
    }
}

#[test]
fn a_mistake_in_a_file_is_reported_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("server.properties");
    std::fs::write(&file, "# one\nnode.id=1\n\nnum.partitions=x\n").unwrap();
    let mut sources = Sources::default();
    sources.file(&file).unwrap();
    let refusal = |sources: &Sources| BrokerConfig::resolve(sources).unwrap_err().to_string();
    assert!(refusal(&sources).contains("server.properties:4: num.partitions=x"), "{}", refusal(&sources));
    assert!(sources.file(&dir.path().join("none")).unwrap_err().to_string().contains("none"));
    let mut sources = Sources::default();
    sources.pair("num.partitions");
    assert!(refusal(&sources).contains("key=value"));
    let mut sources = Sources::default();
    sources.environment(variables(&[("ESKER_NUM_PARTITION", "1"), ("ESKER_SERVICE_HOST", "x"), ("ESKER_PORT", "tcp")]));
    let text = refusal(&sources);
    assert!(text.contains("environment variable ESKER_NUM_PARTITION") && !text.contains("mistakes"), "{text}");
}

#[test]
fn all_mistakes_are_reported_at_once_in_the_order_they_were_given() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("server.properties");
    let lines = [
        "super.users=User:admin",
        "authorizer.class.name=A",
        "listeners=SASL_SSL://:1,PLAINTEXT://:2,PLAINTEXT://:3",
        "security.inter.broker.protocol=SASL_SSL",
        "http.listen=9644",
        "allow.everyone.if.no.acl.found=false",
        "zookeeper.set.acl=true",
        "node.id=1",
        "broker.id=2",
        "listener.name.internal.scram-sha-512.sasl.jaas.config=hush",
        "num.partitions=x",
        "process.roles=controller",
        "advertised.listeners=OTHER://h:1",
        "num.partition=1",
    ];
    std::fs::write(&file, lines.join("\n")).unwrap();
    let mut sources = Sources::default();
    sources.file(&file).unwrap();
    sources.environment(variables(&[
        ("ESKER_SSL_KEYSTORE_LOCATION", "/k"),
        ("ESKER_LISTENER_NAME_X_SSL_CLIENT_AUTH", "required"),
    ]));
    sources.pair("nonsense");
    sources.pair("remote.log.storage.system.enable=true");
    let errors = BrokerConfig::resolve(&sources).unwrap_err();
    let text = errors.to_string();
    let found: Vec<&str> = text.lines().skip(1).map(str::trim).collect();
    let at = |line: usize, what: &str| format!("{}:{line}: {what}", file.display());
    let expected = [
        at(1, "super.users=User:admin is not served"),
        at(2, "authorizer.class.name=A is not served"),
        at(3, "listeners=SASL_SSL://:1,PLAINTEXT://:2,PLAINTEXT://:3: two listeners are named PLAINTEXT"),
        at(3, "listeners=SASL_SSL://:1,PLAINTEXT://:2,PLAINTEXT://:3: listener SASL_SSL is for SASL_SSL"),
        at(4, "security.inter.broker.protocol=SASL_SSL is not served"),
        at(5, "http.listen=9644: "),
        at(6, "allow.everyone.if.no.acl.found=false is not served"),
        at(7, "Kafka 4 has no config zookeeper.set.acl any more"),
        at(9, "broker.id=2: "),
        at(10, "listener.name.internal.scram-sha-512.sasl.jaas.config=[hidden] is not served"),
        at(11, "num.partitions=x: "),
        at(12, "process.roles=controller: "),
        at(13, "advertised.listeners=OTHER://h:1: "),
        at(14, "unknown config num.partition=1"),
        "environment variable ESKER_LISTENER_NAME_X_SSL_CLIENT_AUTH: listener.name.x.ssl.client.auth=required"
            .to_owned(),
        "environment variable ESKER_SSL_KEYSTORE_LOCATION: ssl.keystore.location=/k is not served".to_owned(),
        "--set \"nonsense\": key=value".to_owned(),
        "flag --set: remote.log.storage.system.enable=true is not served".to_owned(),
    ];
    assert_eq!(errors.0.len(), expected.len(), "{text}");
    for (found, expected) in found.iter().zip(&expected) {
        assert!(found.starts_with(expected.as_str()), "{found}\nnot {expected}");
    }
    assert!(text.contains("18 mistakes") && text.contains("Remove these settings") && !text.contains("hush"), "{text}");
}

#[test]
fn a_harmless_value_of_what_protects_starts_a_broker() {
    let config = given(&[
        ("authorizer.class.name", ""),
        ("allow.everyone.if.no.acl.found", "true"),
        ("security.inter.broker.protocol", "PLAINTEXT"),
        ("sasl.enabled.mechanisms", ""),
        ("ssl.client.auth", "none"),
        ("ssl.endpoint.identification.algorithm", ""),
        ("listener.name.plaintext.ssl.client.auth", "none"),
        ("remote.log.storage.system.enable", "false"),
        ("remote.log.storage.manager.class.name", "org.example.Storage"),
        ("node.id", "3"),
        ("broker.id", "3"),
        ("listeners", "INSIDE://:1,CONTROLLER://:2"),
        ("controller.listener.names", "CONTROLLER"),
        ("listener.security.protocol.map", "INSIDE:PLAINTEXT,CONTROLLER:SSL,OUTSIDE:SASL_SSL"),
    ]);
    assert_eq!(config.unwrap().node_id, 3);
    assert_eq!(given(&[("node.id", "3"), ("broker.id", "-1")]).unwrap().node_id, 3);
    let mut sources = Sources::default();
    sources.set(FLAG, "authorizer.class.name", "A");
    sources.pair("authorizer.class.name=");
    assert!(BrokerConfig::resolve(&sources).is_ok(), "a later source may take it back");
}

#[test]
fn configs_of_plug_ins_are_named_and_refused_only_if_asked_to() {
    let mut sources = Sources::default();
    for name in ["confluent.license", "cruise.control.metrics.topic", "rsm.config.bucket", "num.io.threads"] {
        sources.set(FLAG, name, "hush");
    }
    sources.set(FLAG, "num.io.threads", "4");
    assert!(BrokerConfig::resolve(&sources).is_ok());
    assert_eq!(sources.foreign(), ["confluent.license", "cruise.control.metrics.topic", "rsm.config.bucket"]);
    assert_eq!(sources.configs_without_effect(), ["num.io.threads"]);
    sources.refuse_plugin_configs();
    let text = BrokerConfig::resolve(&sources).unwrap_err().to_string();
    assert!(text.contains("3 mistakes") && text.contains("confluent.license") && !text.contains("hush"), "{text}");
}

/// As Kafka 4 ships it, comments aside.
const STOCK: &str = "
process.roles=broker,controller
node.id=7
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=/tmp/kraft-combined-logs
num.partitions=1
num.recovery.threads.per.data.dir=1
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
";

#[test]
fn a_stock_file_of_kafka_starts_a_broker() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("server.properties");
    std::fs::write(&file, STOCK).unwrap();
    let mut sources = Sources::default();
    sources.file(&file).unwrap();
    let config = BrokerConfig::resolve(&sources).unwrap();
    assert_eq!((config.node_id, config.listeners.len(), config.advertised.len()), (7, 1, 1));
    assert_eq!((config.controllers[0].port, config.join[0].as_str()), (9093, "localhost:9093"));
    assert_eq!((config.listeners[0].host.as_str(), config.advertised[0].host.as_str()), ("", "localhost"));
    let idle = sources.configs_without_effect();
    assert!(idle.contains(&"num.network.threads") && !idle.contains(&"listeners"), "{idle:?}");
}

#[test]
fn listeners_are_read_in_every_form() {
    for (text, host, port) in [
        ("PLAINTEXT://h:1", "h", 1),
        ("h:1", "h", 1),
        ("PLAINTEXT://[::1]:2", "::1", 2),
        ("plaintext://:3", "", 3),
        ("PLAINTEXT://0.0.0.0:0", "0.0.0.0", 0),
    ] {
        let config = given(&[("listeners", text)]).unwrap();
        let listener = &config.listeners[0];
        assert_eq!(
            (listener.name.as_str(), listener.host.as_str(), listener.port),
            ("PLAINTEXT", host, port),
            "{text}"
        );
    }
    let two = [("listeners", "A://:1,B://:2"), ("listener.security.protocol.map", "A:PLAINTEXT,B:PLAINTEXT")];
    assert_eq!(given(&two).unwrap().listeners.len(), 2);
}

#[test]
fn other_nodes_call_at_the_inter_broker_listener() {
    let listeners = [
        ("listeners", "EXTERNAL://:1,INTERNAL://:2,CONTROLLER://:3"),
        ("listener.security.protocol.map", "EXTERNAL:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"),
        ("controller.listener.names", "CONTROLLER"),
    ];
    let with = |more: &[(&str, &str)]| given(&[&listeners, more].concat());
    assert_eq!(with(&[]).unwrap().inter_broker_listener, "EXTERNAL");
    assert_eq!(with(&[("security.inter.broker.protocol", "PLAINTEXT")]).unwrap().inter_broker_listener, "EXTERNAL");
    assert_eq!(with(&[("inter.broker.listener.name", "internal")]).unwrap().inter_broker_listener, "INTERNAL");
    assert_eq!(given(&[]).unwrap().inter_broker_listener, "PLAINTEXT");
    let refused = with(&[("inter.broker.listener.name", "CONTROLLER")]).unwrap_err().to_string();
    assert!(
        refused.contains("CONTROLLER is in controller.listener.names: name one of EXTERNAL, INTERNAL"),
        "{refused}"
    );
    let unserved = [("listeners", "SSL://:1"), ("inter.broker.listener.name", "SSL")];
    assert!(!given(&unserved).unwrap_err().to_string().contains("mistakes"), "one mistake is reported once");
}

#[test]
fn a_node_without_the_role_of_a_controller_may_not_vote() {
    for (roles, may_vote) in [("", true), ("broker,controller", true), ("controller, broker", true), ("broker", false)]
    {
        assert_eq!(given(&[("process.roles", roles)]).unwrap().may_vote, may_vote, "{roles}");
    }
    assert!(given(&[]).unwrap().may_vote);
}
