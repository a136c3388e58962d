//! Commands of operators against real brokers: groups, cluster, doctor, contexts, completion, bench.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

mod bench;
mod cluster;
mod completion;
mod contexts;
mod doctor;
mod groups;

use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};

use esker_tests::binary;
use serde_json::Value;

/// `esker ARGUMENTS`, with nothing from the environment of the tests.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).env_remove("ESKER_BOOTSTRAP").env("XDG_CONFIG_HOME", "/nonexistent").stdin(Stdio::null());
    command
}

/// Runs `esker ARGUMENTS` on a cluster.
fn run(at: SocketAddr, arguments: &[&str]) -> Output {
    command(arguments).args(["--bootstrap", &at.to_string()]).output().unwrap()
}

/// What it prints when all goes well.
fn good(at: SocketAddr, arguments: &[&str]) -> String {
    let output = run(at, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// As [`good`], with `--json`.
fn json(at: SocketAddr, arguments: &[&str]) -> Value {
    serde_json::from_str(&good(at, &[arguments, &["--json"]].concat())).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Fails with this exit code; returns what it wrote to stderr.
fn refused(at: SocketAddr, arguments: &[&str], code: i32) -> String {
    let output = run(at, arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
    stderr(&output)
}

/// Produces lines.
fn produce(at: SocketAddr, topic: &str, lines: &str) {
    use std::io::Write;
    let bootstrap = at.to_string();
    let mut command = command(&["produce", topic, "--bootstrap", &bootstrap]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

/// A command that runs until it is dropped.
struct Running(Child);

impl Running {
    fn start(at: SocketAddr, arguments: &[&str]) -> Self {
        let bootstrap = at.to_string();
        let mut command = command(arguments);
        command.args(["--bootstrap", &bootstrap]).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// SIGTERM, and waits for the end.
    fn terminate(mut self) {
        assert!(Command::new("kill").arg(self.0.id().to_string()).status().unwrap().success());
        self.0.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
