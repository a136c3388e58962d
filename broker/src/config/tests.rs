use std::path::Path;

use super::*;

const FLAG: Origin = Origin::Flag("--set");

fn given(pairs: &[(&str, &str)]) -> Result<BrokerConfig, ConfigError> {
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
    sources.pair("num.partitions=4").unwrap();
    assert_eq!(now(&sources).num_partitions, 4);
}

#[test]
fn refusals_say_where_what_and_what_is_allowed() {
    let refusal = |name: &str, value: &str| given(&[(name, value)]).unwrap_err().to_string();
    for (name, value, parts) in [
        ("num.partition", "1", &["flag --set", "num.partition=1", "did you mean num.partitions?"][..]),
        ("wholly.unknown.thing", "1", &["neither Kafka nor Esker"]),
        (
            "num.partitions",
            "many",
            &["num.partitions=many: a whole number is needed", "allowed: [1,...]", "default: 1"],
        ),
        ("num.partitions", "0", &["at least 1"]),
        ("compression.type", "rar", &["zstd, lz4, snappy"]),
        ("log.dirs", " , ", &["log.dirs=,: at least one folder"]),
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
    ] {
        let text = refusal(name, value);
        parts.iter().for_each(|part| assert!(text.contains(part), "{name}={value}: {text}"));
    }
    let secret = given(&[("listener.name.x.ssl.key.password", "hush")]);
    assert!(secret.is_ok(), "{secret:?}");
}

#[test]
fn a_mistake_in_a_file_is_told_by_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("server.properties");
    std::fs::write(&file, "# one\nnode.id=1\n\nnum.partitions=x\n").unwrap();
    let mut sources = Sources::default();
    sources.file(&file).unwrap();
    let text = sources.check().unwrap_err().to_string();
    assert!(text.contains("server.properties, line 4"), "{text}");
    assert!(sources.file(&dir.path().join("none")).unwrap_err().to_string().contains("none"));
    assert!(sources.pair("num.partitions").unwrap_err().to_string().contains("key=value"));
    let mut sources = Sources::default();
    sources.environment(variables(&[("ESKER_NUM_PARTITION", "1")]));
    assert!(sources.check().unwrap_err().to_string().contains("environment variable ESKER_NUM_PARTITION"));
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
    assert_eq!((config.listeners[0].host.as_str(), config.advertised[0].host.as_str()), ("", "localhost"));
    let idle = sources.without_effect();
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
