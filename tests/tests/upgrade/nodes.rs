//! Nodes whose build is chosen at each start.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use esker_tests::cluster::{find, free_addresses};
use esker_tests::{Esker, binary};

/// Nodes in folders of one temporary folder.
pub struct Nodes {
    dir: tempfile::TempDir,
    addresses: Vec<SocketAddr>,
    running: Vec<Option<Esker>>,
}

impl Nodes {
    /// So many, none of which runs.
    pub fn new(count: usize) -> Self {
        let running = (0..count).map(|_| None).collect();
        Self { dir: tempfile::tempdir().unwrap(), addresses: free_addresses(count), running }
    }

    /// The folder with the data of all.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.addresses.len()
    }

    fn run(&self, at: usize, build: &Path, flags: &[&str]) -> Esker {
        let (data, listen) = (self.dir().join(at.to_string()), self.addresses[at].to_string());
        let mut arguments = vec!["serve", "--data-dir", data.to_str().unwrap(), "--listen", &listen];
        arguments.extend(["--http", "127.0.0.1:0"]);
        let join = self.bootstrap();
        if self.count() > 1 {
            arguments.extend(["--join", &join]);
        }
        arguments.extend(flags);
        Esker::spawn_build(build, &arguments)
    }

    /// Starts one, and waits until it is ready.
    pub fn start(&mut self, at: usize, build: &Path, flags: &[&str]) {
        self.running[at] = Some(self.run(at, build, flags));
    }

    /// Starts all at once.
    pub fn start_all(&mut self, build: &Path, flags: &[&str]) {
        let started: Vec<Esker> = std::thread::scope(|scope| {
            let nodes = &*self;
            let starts: Vec<_> =
                (0..nodes.count()).map(|at| scope.spawn(move || nodes.run(at, build, flags))).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        self.running = started.into_iter().map(Some).collect();
        self.cli_until(&["cluster", "status", "--json"], |status| {
            let status: serde_json::Value = serde_json::from_str(status).unwrap_or_default();
            let nodes = status["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
            nodes.iter().filter(|node| node["quorum"] == "leader" || node["quorum"] == "voter").count() == self.count()
        });
    }

    /// A clean stop.
    pub fn stop(&mut self, at: usize) {
        // The last nodes of a cluster stop without a majority, which is no clean end for them.
        self.running[at].take().expect("it runs").terminate();
    }

    /// A clean stop of all, the last one first.
    pub fn stop_all(&mut self) {
        (0..self.count()).rev().for_each(|at| self.stop(at));
    }

    /// kill -9.
    pub fn kill(&mut self, at: usize) {
        self.running[at].take().expect("it runs").kill();
    }

    /// Waits until a node may be stopped without anything becoming unavailable.
    pub fn wait_until_safe_to_stop(&self, at: usize) {
        let id = self.running[at].as_ref().expect("it runs").ready_field("node").to_owned();
        self.cli_until(&["cluster", "safe-to-stop", &id], |_| true);
    }

    /// Addresses of all.
    pub fn bootstrap(&self) -> String {
        self.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// What a command of this build prints, which must not fail.
    pub fn cli(&self, arguments: &[&str], input: &str) -> String {
        let output = self.output(arguments, input);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a command of this build prints once it does not fail and `holds` of it.
    pub fn cli_until(&self, arguments: &[&str], holds: impl Fn(&str) -> bool) -> String {
        find(&format!("{arguments:?}"), || {
            let output = self.output(arguments, "");
            let text = String::from_utf8(output.stdout).unwrap();
            (output.status.success() && holds(&text)).then_some(text)
        })
    }

    fn output(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(binary())
            .args(arguments)
            .args(["--bootstrap", &self.bootstrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that reads nothing may have ended.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// The addresses, for requests over plain sockets.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}
