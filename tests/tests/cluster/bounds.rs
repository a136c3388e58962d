//! What clients may take of a node, and what they leave to the other nodes.

use std::net::TcpStream;

use esker_tests::cluster::{free_addresses, wait_until};
use esker_tests::{Esker, http_answer};

/// More connections than clients may have with so many descriptors.
const OPEN_FILES: usize = 1024;
const CONNECTIONS: usize = 1100;

#[test]
fn clients_leave_descriptors_to_nodes() {
    let dir = tempfile::tempdir().unwrap();
    let [first_data, second_data] = ["first", "second"].map(|name| dir.path().join(name).display().to_string());
    let address = free_addresses(1)[0].to_string();
    let arguments = ["serve", "--data-dir", &first_data, "--listen", &address, "--http", "127.0.0.1:0"];
    let first = Esker::spawn_with_open_files(OPEN_FILES, &arguments);
    let clients: Vec<TcpStream> = (0..CONNECTIONS).map(|_| first.connect()).collect();
    wait_until("clients are refused", || first.log().contains("connection refused"));
    let second = Esker::start_with(second_data.as_ref(), &["--join", &address]);
    let is_ready = || http_answer(second.http, "/health/ready").is_some_and(|(code, _)| code == 200);
    wait_until("the second node is ready", is_ready);
    assert!(!first.log().contains("cannot accept a connection"), "{}", first.log());
    drop(clients);
}
