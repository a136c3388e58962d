//! Whether a broker leads partitions: metadata may name a leader before that broker knows of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use esker_protocol::error::ErrorCode;
use esker_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use esker_protocol::primitives::Str;

use crate::Result;
use crate::client::Connection;

const VERSION: i16 = 12;
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until the broker at `address` serves these partitions of a topic.
///
/// # Errors
/// It does not in time, or does not answer.
pub fn wait_for_leader(address: SocketAddr, topic: &str, partitions: impl IntoIterator<Item = i32>) -> Result<()> {
    let mut connection = Connection::open(address)?;
    let partition = |partition| FetchPartition { partition, partition_max_bytes: 1, ..FetchPartition::default() };
    let partitions: Vec<FetchPartition> = partitions.into_iter().map(partition).collect();
    let wanted = partitions.len();
    let topics = vec![FetchTopic { topic: Str::copy(topic), partitions, ..FetchTopic::default() }];
    let request = FetchRequest { topics, max_bytes: 1, ..FetchRequest::default() };
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = connection.call(VERSION, &request)?;
        let answers = answer.responses.iter().flat_map(|topic| &topic.partitions);
        let ready = answers.filter(|partition| partition.error_code == ErrorCode::NONE).count();
        if ready == wanted {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("{address} leads {ready} of {wanted} partitions of {topic} after {PATIENCE:?}").into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
