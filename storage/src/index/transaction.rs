//! Transaction index: 34-byte entries of aborted transactions, in the order of their markers (KIP-98).
//!
//! Few segments have any, so the entries live in memory; the file is written at once when one is added.

use parking_lot::RwLock;

use crate::walk::{be_i16, be_i64};

const ENTRY: usize = 34;

/// One aborted transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AbortedTxn {
    pub producer_id: i64,
    pub first_offset: i64,
    /// Offset of the abort marker.
    pub last_offset: i64,
    /// Last stable offset when the marker was written: entries after this one begin at or above it.
    pub last_stable_offset: i64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct TransactionIndex(RwLock<Vec<AbortedTxn>>);

impl TransactionIndex {
    /// Bytes of an entry.
    pub(crate) const ENTRY: usize = ENTRY;

    /// Takes the whole entries of a file that lie in `from..up_to`; stops at the first that cannot be.
    pub(crate) fn decode(bytes: &[u8], from: i64, up_to: i64) -> Self {
        let mut entries: Vec<AbortedTxn> = Vec::new();
        for chunk in bytes.chunks_exact(ENTRY) {
            let entry = (|| {
                (be_i16(chunk, 0)? == 0).then_some(())?;
                Some(AbortedTxn {
                    producer_id: be_i64(chunk, 2)?,
                    first_offset: be_i64(chunk, 10)?,
                    last_offset: be_i64(chunk, 18)?,
                    last_stable_offset: be_i64(chunk, 26)?,
                })
            })();
            match entry {
                Some(entry)
                    if (from..up_to).contains(&entry.last_offset)
                        && entry.first_offset <= entry.last_offset
                        && entries.last().is_none_or(|last| last.last_offset < entry.last_offset) =>
                {
                    entries.push(entry);
                }
                _ => break,
            }
        }
        Self(RwLock::new(entries))
    }

    pub(crate) fn push(&self, entry: AbortedTxn) {
        self.0.write().push(entry);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.read().is_empty()
    }

    pub(crate) fn entries(&self) -> Vec<AbortedTxn> {
        self.0.read().clone()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        self.encode_from(0)
    }

    /// The file's form of the entries from number `from` on.
    pub(crate) fn encode_from(&self, from: usize) -> Vec<u8> {
        let entries = self.0.read();
        let mut out = Vec::with_capacity(entries.len().saturating_sub(from) * ENTRY);
        for entry in entries.iter().skip(from) {
            out.extend_from_slice(&0i16.to_be_bytes());
            for field in [entry.producer_id, entry.first_offset, entry.last_offset, entry.last_stable_offset] {
                out.extend_from_slice(&field.to_be_bytes());
            }
        }
        out
    }

    /// Adds what overlaps `from..up_to` to `found`; true when later entries cannot overlap any more.
    pub(crate) fn collect(&self, from: i64, up_to: i64, found: &mut Vec<AbortedTxn>) -> bool {
        let entries = self.0.read();
        // Ordered by marker: transactions that ended before are skipped.
        let first = entries.partition_point(|entry| entry.last_offset < from);
        for entry in entries.iter().skip(first) {
            if entry.first_offset < up_to {
                found.push(*entry);
            }
            if entry.last_stable_offset >= up_to {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_form_and_collect() {
        let index = TransactionIndex::default();
        let txn = |producer_id, first_offset, last_offset, last_stable_offset| AbortedTxn {
            producer_id,
            first_offset,
            last_offset,
            last_stable_offset,
        };
        index.push(txn(1, 0, 10, 11));
        index.push(txn(2, 5, 20, 21));
        index.push(txn(3, 30, 40, 41));
        let bytes = index.encode();
        assert_eq!(bytes.len(), 3 * 34);
        let index = TransactionIndex::decode(&bytes, 0, 41);
        assert_eq!(index.entries().len(), 3);
        let mut found = Vec::new();
        assert!(index.collect(11, 15, &mut found));
        assert_eq!(found.iter().map(|t| t.producer_id).collect::<Vec<_>>(), [2]);
        assert_eq!(TransactionIndex::decode(&bytes, 0, 40).entries().len(), 2);
        assert_eq!(TransactionIndex::decode(&bytes[..50], 0, 41).entries().len(), 1);
    }
}
