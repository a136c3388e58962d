//! What happened in a run, in order, with virtual times: requests, answers, operations on the disk, power cuts. The same seed gives the
//! same bytes.

use std::fmt::Write;
use std::sync::{Arc, Mutex};

use esker_protocol::records::crc32c;

use crate::disk::SimDisk;
use crate::state::Event;

#[derive(Debug, Default)]
struct Inner {
    text: String,
    disk: Option<SimDisk>,
    /// Events of the disk's journal that are in the text.
    journaled: usize,
}

/// See the module. Clones are the same trace.
#[derive(Debug, Clone, Default)]
pub struct Trace(Arc<Mutex<Inner>>);

impl Trace {
    /// From now on the operations of `disk` are in the trace.
    pub fn follow_disk(&self, disk: &SimDisk) {
        let mut inner = self.0.lock().unwrap();
        inner.disk = Some(disk.clone());
        inner.journaled = 0;
    }

    /// Adds a line, after what the disk has seen since the last one.
    pub fn note(&self, now_ms: i64, what: &str) {
        let mut inner = self.0.lock().unwrap();
        let events = inner.disk.as_ref().map(|disk| disk.journal_from(inner.journaled)).unwrap_or_default();
        inner.journaled += events.len();
        for event in events {
            let line = match event {
                Event::Write(id, at, bytes) => format!("Write({id}, {at}, {}, {:08x})", bytes.len(), crc32c(&bytes)),
                other => format!("{other:?}"),
            };
            writeln!(inner.text, "{now_ms} disk {line}").unwrap();
        }
        writeln!(inner.text, "{now_ms} {what}").unwrap();
    }

    pub fn text(&self) -> String {
        self.0.lock().unwrap().text.clone()
    }
}
