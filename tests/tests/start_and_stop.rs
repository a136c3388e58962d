//! Starting, stopping, configuration, HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

use std::process::Command;
use std::time::Duration;

use esker_tests::{Esker, binary};

fn refused(arguments: &[&str]) -> String {
    let output = Command::new(binary()).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty(), "nothing but the ready line goes to stdout");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_ready_line_and_a_clean_stop() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let esker = Esker::start(&data);
    assert!(esker.ready.starts_with(&format!(
        "esker ready kafka={} http={} data={}",
        esker.kafka,
        esker.http,
        data.display()
    )));
    let cluster = esker.ready.split("cluster=").nth(1).unwrap().to_owned();
    assert!(esker.ready.contains(" node=1 ") && cluster.len() == 22, "{}", esker.ready);
    println!("from exec to the ready line: {:?}; resident: {} kB", esker.took, esker.memory_kb("VmRSS"));
    assert!(esker.terminate().success());
    assert!(data.join(".kafka_cleanshutdown").exists());
    let again = Esker::start(&data);
    assert!(again.ready.ends_with(&cluster), "the cluster keeps its id");
}

#[test]
fn a_second_broker_on_the_same_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Esker::start(dir.path());
    let data = dir.path().display().to_string();
    let output = Command::new(binary())
        .args(["serve", "--data-dir", &data, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("in use by another process"), "{output:?}");
}

#[test]
fn wrong_configuration_names_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("untouched");
    let data_flag = data.display().to_string();
    for (set, expected) in [
        ("num.partition=3", "num.partitions"),
        ("num.partitions=many", "many"),
        ("log.cleanup.policy=shred", "compact"),
        ("listeners=nonsense", "listeners"),
    ] {
        let message = refused(&["serve", "--data-dir", &data_flag, "--set", set]);
        assert!(message.contains(expected), "{set}: {message}");
    }
    assert!(!data.exists(), "nothing was touched");
}

/// A protection that is not served must never look as if it were there, whatever source asks for it.
#[test]
fn a_secured_configuration_starts_no_open_broker() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("untouched").display().to_string(), dir.path().join("server.properties"));
    let lines = [
        "listeners=SASL_SSL://127.0.0.1:0",
        "num.network.threads=3",
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users=User:admin",
        "allow.everyone.if.no.acl.found=false",
        "security.inter.broker.protocol=SASL_SSL",
        "sasl.enabled.mechanisms=SCRAM-SHA-512",
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=hush",
        "ssl.keystore.password=hush",
        "remote.log.storage.system.enable=true",
        "zookeeper.connect=localhost:2181",
    ];
    std::fs::write(&file, lines.join("\n")).unwrap();
    let file = file.display().to_string();
    let message = refused(&["serve", "--data-dir", &data, "--config", &file, "--http", "127.0.0.1:0"]);
    let mut from = 0;
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| !line.starts_with("num.")) {
        let name = line.split('=').next().unwrap();
        let place = message[from..].find(&format!("{file}:{}: ", at + 1));
        from += place.unwrap_or_else(|| panic!("line {} is not reported in its place: {message}", at + 1));
        assert!(message[from..].lines().next().unwrap().contains(name), "{name}: {message}");
    }
    assert!(!message.contains("hush"), "{message}");
    let message = refused(&["serve", "--data-dir", &data, "--set", "client.quota.callback.class=com.example.Quotas"]);
    assert!(message.contains("client.quota.callback.class"), "{message}");
    let output = Command::new(binary())
        .args(["serve", "--data-dir", &data])
        .env("ESKER_AUTHORIZER_CLASS_NAME", "org.example.Authorizer")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("ESKER_AUTHORIZER_CLASS_NAME"), "{output:?}");
    let plug_in = ["serve", "--ephemeral", "--set", "confluent.license=hush"];
    Esker::spawn(&plug_in);
    assert!(refused(&[&plug_in[..], &["--strict"]].concat()).contains("confluent.license"));
    assert!(!std::path::Path::new(&data).exists(), "nothing was touched");
}

#[test]
fn every_signal_that_asks_for_a_stop_gets_a_clean_one() {
    let dir = tempfile::tempdir().unwrap();
    // Under `nohup` this process, and so the broker, ignores SIGHUP.
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let ignores_hangup = u64::from_str_radix(mask.trim(), 16).unwrap() & 1 == 1;
    for signals in [&["HUP"][..], &["INT"], &["TERM"], &["TERM", "TERM"], &["INT", "INT"], &["TERM", "HUP"]] {
        if ignores_hangup && signals == ["HUP"] {
            continue;
        }
        let esker = Esker::start(dir.path());
        assert!(!dir.path().join(".kafka_cleanshutdown").exists());
        let status = esker.end_by(signals);
        assert!(status.success(), "{signals:?}: {status}");
        assert!(dir.path().join(".kafka_cleanshutdown").exists(), "{signals:?}");
    }
}

#[test]
fn a_server_properties_of_kafka_starts_a_broker() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("server.properties");
    // Kafka's own file names 9093, which another test may use.
    let controller = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        "# as Kafka ships it, but for ports and folder\nprocess.roles=broker,controller\nnode.id=7\n\
         controller.quorum.bootstrap.servers=localhost:{controller}\nlisteners=PLAINTEXT://127.0.0.1:0,CONTROLLER://:{controller}\n\
         inter.broker.listener.name=PLAINTEXT\ncontroller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL\n\
         num.network.threads=3\nnum.io.threads=8\nsocket.send.buffer.bytes=102400\nsocket.receive.buffer.bytes=102400\n\
         socket.request.max.bytes=104857600\nlog.dirs={}\nnum.partitions=1\nnum.recovery.threads.per.data.dir=2\n\
         offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
         log.retention.hours=168\nlog.segment.bytes=1073741824\nlog.retention.check.interval.ms=300000\n",
        dir.path().join("data").display()
    );
    std::fs::write(&file, text).unwrap();
    let esker = Esker::spawn(&["serve", "--config", &file.display().to_string(), "--http", "127.0.0.1:0"]);
    assert!(esker.ready.contains(" node=7 "), "{}", esker.ready);
}

#[test]
fn an_ephemeral_broker_leaves_nothing() {
    let esker = Esker::spawn(&["serve", "--ephemeral"]);
    let folder = esker.ready.split_whitespace().find_map(|w| w.strip_prefix("data=")).unwrap().to_owned();
    assert!(std::path::Path::new(&folder).is_dir());
    assert!(esker.terminate().success());
    assert!(!std::path::Path::new(&folder).exists());
}

#[test]
fn http_tells_health_version_and_metrics() {
    let esker = Esker::spawn(&["serve", "--ephemeral"]);
    assert!(!esker.http_get("/health/live").is_empty());
    assert!(!esker.http_get("/health/ready").is_empty());
    let version: serde_json::Value = serde_json::from_str(&esker.http_get("/version")).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert!(esker.http_get("/metrics").contains("# TYPE kafka_network_requestmetrics_requests_total counter"));
}

/// A unit of `Type=notify` with `WatchdogSec=`.
#[test]
fn the_service_manager_is_notified() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let next = || {
        let mut message = [0; 1024];
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let mut broker = Command::new(binary())
        .args(["serve", "--ephemeral"])
        .env("NOTIFY_SOCKET", &socket)
        .env("WATCHDOG_USEC", "100000")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let ready = next();
    assert!(ready.starts_with("READY=1\nSTATUS=serves Kafka clients at 127.0.0.1:"), "{ready}");
    for _ in 0..3 {
        assert_eq!(next().trim(), "WATCHDOG=1");
    }
    assert!(Command::new("kill").arg(broker.id().to_string()).status().unwrap().success());
    // The watchdog is fed until then.
    while next().trim() != "STOPPING=1" {}
    assert!(broker.wait().unwrap().success());
}

/// Bit of CAP_SYS_NICE.
const SYS_NICE: u32 = 23;

#[test]
fn the_kernel_prefers_the_threads_of_the_clusters_control() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    if u64::from_str_radix(effective.trim(), 16).unwrap() >> SYS_NICE & 1 == 0 {
        println!("not allowed to raise a priority here");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let esker = Esker::start(dir.path());
    let mut nice = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{}/task", esker.pid())).unwrap() {
        // A thread may end meanwhile.
        let Ok(stat) = std::fs::read_to_string(thread.unwrap().path().join("stat")) else { continue };
        let (name, rest) = stat.split_once('(').unwrap().1.rsplit_once(')').unwrap();
        let value: i32 = rest.split_whitespace().nth(16).unwrap().parse().unwrap();
        nice.push((name.to_owned(), value));
    }
    let (control, others): (Vec<_>, Vec<_>) = nice.into_iter().partition(|(name, _)| name == "control");
    assert!(!control.is_empty() && control.iter().all(|(_, nice)| *nice == -10), "{control:?}");
    assert!(!others.is_empty() && others.iter().all(|(_, nice)| *nice == 0), "{others:?}");
}
