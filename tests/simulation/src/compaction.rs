//! A compacted topic. Rules: of each key the last acknowledged value, or one sent later, is there; offsets rise; each record is one that
//! was sent; a key's values are in the order in which they were sent.

use std::collections::BTreeMap;
use std::time::Duration;

use esker_protocol::compression::Compression;
use esker_protocol::error::ErrorCode;
use esker_protocol::records::{Batch, BatchBuilder};

use crate::access::{TRIES, create_topic, fetch, produce, records_of};
use crate::client::Client;
use crate::workload::SharedModel;

const TOPIC: &str = "c";
const KEYS: usize = 5;
const CONFIGS: [(&str, &str); 5] = [
    ("cleanup.policy", "compact"),
    ("segment.ms", "200"),
    ("min.cleanable.dirty.ratio", "0.01"),
    ("file.delete.delay.ms", "100"),
    ("delete.retention.ms", "300"),
];

/// What the client knows of the topic. The value of each record is its number.
#[derive(Debug, Default)]
pub struct Compacted {
    topic_exists: bool,
    sent: usize,
    /// The last acknowledged number of each key.
    acknowledged: BTreeMap<String, usize>,
    /// Acknowledged records that a later check did not find any more, because compaction took them.
    pub removed: usize,
    /// Records that were acknowledged.
    total: usize,
}

fn key_of(number: usize) -> String {
    format!("k{}", number * 7 % KEYS)
}

/// Produces until it is dropped.
pub async fn run(mut client: Client, model: SharedModel) {
    loop {
        client.lab().pause(40).await;
        let count = 1 + client.lab().below(4);
        let first = {
            let compacted = &mut model.lock().unwrap().compacted;
            compacted.sent += count;
            compacted.sent - count
        };
        let mut builder = BatchBuilder::new(Compression::None);
        for (delta, number) in (0..).zip(first..first + count) {
            let (key, value) = (key_of(number), number.to_string());
            builder.append(delta, client.lab().node.now_ms(), Some(key.as_bytes()), Some(value.as_bytes()), &[]);
        }
        let what = format!("{first}..{}", first + count);
        match produce(&mut client, (TOPIC, 0), None, builder.build().unwrap(), &what).await {
            Some(Ok(_)) => {
                let compacted = &mut model.lock().unwrap().compacted;
                compacted.total += count;
                compacted.acknowledged.extend((first..first + count).map(|number| (key_of(number), number)));
            }
            Some(Err(_)) => {}
            // The request may be on its way still.
            None => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Reads everything and holds it against the rules.
pub async fn verify(client: &mut Client, model: &SharedModel) -> Result<(), String> {
    if !model.lock().unwrap().compacted.topic_exists {
        create_topic(client, TOPIC, 1, &CONFIGS).await?;
        model.lock().unwrap().compacted.topic_exists = true;
    }
    let log = read(client).await?;
    let mut model = model.lock().unwrap();
    let checked = model.compacted.check(&log);
    if let Err(what) = &checked {
        model.violated(what.clone());
    }
    checked
}

async fn read(client: &mut Client) -> Result<Vec<(i64, String, String)>, String> {
    let (mut log, mut position, mut failures) = (Vec::new(), 0, 0);
    while failures < TRIES {
        let answer = fetch(client, (TOPIC, 0), position, 0, false).await;
        let Some(data) = answer.filter(|data| data.error_code == ErrorCode::NONE) else {
            failures += 1;
            client.lab().pause(20).await;
            continue;
        };
        let mut rest = data.records.unwrap_or_default();
        let before = position;
        while let Ok((batch, behind)) = Batch::parse(rest) {
            rest = behind;
            position = batch.header.base_offset + i64::from(batch.header.last_offset_delta) + 1;
            let records = records_of(&batch).ok_or(format!("{TOPIC}-0: a batch before {position} is damaged"))?;
            log.extend(records.into_iter().filter(|(at, _)| *at >= before).map(|(at, (key, value))| (at, key, value)));
        }
        if position >= data.high_watermark {
            return Ok(log);
        }
        failures += usize::from(position == before);
    }
    Err(format!("{TOPIC}-0 cannot be read"))
}

impl Compacted {
    fn check(&mut self, log: &[(i64, String, String)]) -> Result<(), String> {
        let mut last: BTreeMap<&str, usize> = BTreeMap::new();
        let mut after = -1;
        for (offset, key, value) in log {
            let number: usize = value.parse().map_err(|_| format!("{TOPIC}-0: {value} was never sent"))?;
            if *offset <= after || number >= self.sent || key_of(number) != *key {
                return Err(format!("{TOPIC}-0: {key} {value} at {offset}, behind {after}"));
            }
            if last.insert(key, number).is_some_and(|before| before >= number) {
                return Err(format!("{TOPIC}-0: {key} {value} at {offset} is out of order"));
            }
            after = *offset;
        }
        for (key, number) in &self.acknowledged {
            if last.get(key.as_str()).is_none_or(|found| found < number) {
                return Err(format!("{TOPIC}-0: {key} {number} was acknowledged; found {:?}", last.get(key.as_str())));
            }
        }
        self.removed = self.total.saturating_sub(log.len());
        Ok(())
    }
}
