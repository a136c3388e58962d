//! `deploy/try-cluster`, used as the README says: three nodes, one of which is killed, and the same command again on their data.

use std::fmt::Debug;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use esker_tests::cluster::{find, free_addresses, wait_until};
use esker_tests::{PATIENCE, binary};

/// The script and its three nodes; they end with it.
struct Tried {
    script: Child,
    /// What it says, kept open while it runs.
    _told: Lines<BufReader<ChildStdout>>,
    bootstrap: String,
    pids: Vec<String>,
}

impl Drop for Tried {
    fn drop(&mut self) {
        // A kill -9 of the script would leave its nodes.
        send("TERM", &self.script.id().to_string());
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.script.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.pids.iter().filter(|pid| is_running(pid)).for_each(|pid| send("KILL", pid));
    }
}

fn send(signal: &str, pid: &str) {
    Command::new("kill").args(["-s", signal, pid]).status().unwrap();
}

fn join(addresses: &[impl ToString], separator: &str) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator)
}

fn start(folder: &Path, addresses: &[impl ToString + Debug]) -> Tried {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/try-cluster");
    let mut command = Command::new(script);
    command.arg(folder).env("ESKER", binary()).stdin(Stdio::null()).stdout(Stdio::piped());
    command.env("ADDRESSES", join(&addresses[..3], " ")).env("HTTP_ADDRESSES", join(&addresses[3..], " "));
    let mut script = command.spawn().unwrap();
    let mut told = BufReader::new(script.stdout.take().unwrap()).lines();
    let pid = |line: String| line.split_once("has pid ").expect("a node and its pid").1.to_owned();
    let pids = (0..3).map(|_| pid(told.next().unwrap().unwrap())).collect();
    Tried { script, _told: told, bootstrap: join(&addresses[..3], ","), pids }
}

impl Tried {
    /// What the command line says, as soon as it succeeds.
    fn run(&self, arguments: &[&str], input: &str) -> String {
        find(&format!("esker {arguments:?}"), || {
            let mut command = Command::new(binary());
            command.args(arguments).env("ESKER_BOOTSTRAP", &self.bootstrap);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
            let output = child.wait_with_output().unwrap();
            output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
        })
    }

    fn wait_for_status(&self, is_it: impl Fn(&serde_json::Value) -> bool) {
        let mut last = String::new();
        wait_until("the state of the cluster", || {
            let status = self.run(&["cluster", "status", "--json"], "");
            if status != last {
                eprintln!("{status}");
                last.clone_from(&status);
            }
            is_it(&serde_json::from_str(&status).unwrap())
        });
    }
}

fn is_running(pid: &str) -> bool {
    PathBuf::from("/proc").join(pid).join("exe").exists()
}

#[test]
fn a_cluster_is_tried_as_the_readme_says() {
    let (folder, addresses) = (tempfile::tempdir().unwrap(), free_addresses(6));
    let tried = start(folder.path(), &addresses);
    let votes = |node: &serde_json::Value| node["quorum"] != "observer";
    tried.wait_for_status(|status| {
        status["nodes"].as_array().is_some_and(|nodes| nodes.len() == 3 && nodes.iter().all(votes))
    });
    tried.run(&["topic", "create", "orders", "-p", "6", "-r", "3"], "");
    tried.run(&["produce", "orders"], "hello\n");
    send("KILL", &tried.pids[0]);
    tried.wait_for_status(|status| status["leaderless"] == 0 && status["under_replicated"] == 6);
    assert!(tried.run(&["consume", "orders", "-e"], "").contains("hello"));
    tried.run(&["produce", "orders"], "again\n");
    let pids = tried.pids.clone();
    send("TERM", &tried.script.id().to_string());
    wait_until("the nodes end with the script", || !pids.iter().any(|pid| is_running(pid)));
    drop(tried);

    let tried = start(folder.path(), &addresses);
    tried.wait_for_status(|status| status["under_replicated"] == 0);
    let all = tried.run(&["consume", "orders", "-e"], "");
    assert!(all.contains("hello") && all.contains("again"), "{all}");
}
