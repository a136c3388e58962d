//! Random values of a message, straight as bytes by its schema: nulls, extreme numbers, text of all lengths, tagged fields that are
//! known, and unknown ones.

use bytes::Bytes;
use esker_protocol::Message;
use esker_protocol::primitives::Writer;
use esker_protocol::schema::{Field, Kind, Schema};

use crate::random::Random;

/// Tags from here on are unknown in every message.
const UNKNOWN_TAG: u32 = 1000;

/// Text of one to four bytes a letter; the last needs a surrogate pair in Java.
const LETTERS: [&str; 5] = ["a", "-", "ß", "€", "🦀"];

/// Writes random fields by their schema.
struct Generator<'a> {
    random: &'a mut Random,
    version: i16,
    flexible: bool,
}

impl Generator<'_> {
    fn body(&mut self, w: &mut Writer, schema: &Schema, depth: usize) {
        let (version, mut tagged) = (self.version, Vec::new());
        for field in schema.fields.iter().filter(|field| field.versions.contains(version)) {
            if field.tagged.contains(self.version) {
                if self.random.chance(2) {
                    tagged.push(field);
                }
            } else {
                self.value(w, &field.kind, self.nullable(field), depth);
            }
        }
        if self.flexible {
            tagged.sort_by_key(|field| field.tag);
            let unknown = if self.random.chance(8) { 1 + self.random.below(2) } else { 0 };
            w.put_uvarint((tagged.len() + unknown) as u32);
            for field in tagged {
                let mut inner = Writer::new();
                self.value(&mut inner, &field.kind, self.nullable(field), depth);
                w.put_uvarint(field.tag.unwrap());
                w.put_uvarint(inner.len() as u32);
                w.put_writer(inner);
            }
            for at in 0..unknown {
                let length = self.random.below(200);
                w.put_uvarint(UNKNOWN_TAG + at as u32 * (1 << 20));
                w.put_uvarint(length as u32);
                w.put_slice(&self.random.bytes(length));
            }
        }
    }

    fn nullable(&self, field: &Field) -> bool {
        field.nullable.contains(self.version)
    }

    fn length(&mut self, w: &mut Writer, length: Option<usize>, wide: bool) {
        match (length, self.flexible) {
            (None, true) => w.put_uvarint(0),
            (Some(length), true) => w.put_uvarint(length as u32 + 1),
            (length, false) if wide => w.put_i32(length.map_or(-1, |n| n as i32)),
            (length, false) => w.put_i16(length.map_or(-1, |n| n as i16)),
        }
    }

    /// Zero, the ends of the type, minus one, or anything.
    fn number(&mut self, bits: u32) -> u64 {
        match self.random.below(6) {
            0 => 0,
            1 => (1 << (bits - 1)) - 1,
            2 => 1 << (bits - 1),
            3 => u64::MAX,
            _ => self.random.next(),
        }
    }

    /// Mostly short; now and then so long that its compact length takes two bytes.
    fn size(&mut self) -> usize {
        if self.random.chance(24) { 120 + self.random.below(20) } else { self.random.below(12) }
    }

    fn value(&mut self, w: &mut Writer, kind: &Kind, nullable: bool, depth: usize) {
        let null = nullable && self.random.chance(4);
        match kind {
            Kind::Bool => w.put_i8(self.random.below(2) as i8),
            Kind::Int8 => w.put_i8(self.number(8) as i8),
            Kind::Int16 | Kind::Uint16 => w.put_i16(self.number(16) as i16),
            Kind::Int32 | Kind::Uint32 => w.put_i32(self.number(32) as i32),
            Kind::Int64 => w.put_i64(self.number(64) as i64),
            Kind::Float64 => w.put_f64(self.number(64) as i64 as f64 / 3.0),
            Kind::Uuid if self.random.chance(4) => w.put_slice(&[0; 16]),
            Kind::Uuid => w.put_slice(&self.random.bytes(16)),
            Kind::String | Kind::Bytes if null => self.length(w, None, matches!(kind, Kind::Bytes)),
            Kind::String => {
                let letters: String = (0..self.size()).map(|_| LETTERS[self.random.below(LETTERS.len())]).collect();
                self.length(w, Some(letters.len()), false);
                w.put_slice(letters.as_bytes());
            }
            Kind::Bytes => {
                let length = self.size();
                self.length(w, Some(length), true);
                w.put_slice(&self.random.bytes(length));
            }
            Kind::Array(of) => {
                let count = self.random.below([4, 3, 2, 1][depth.min(3)] + 1);
                self.length(w, (!null).then_some(count), true);
                for _ in 0..if null { 0 } else { count } {
                    self.value(w, of, false, depth + 1);
                }
            }
            Kind::Struct(schema) => {
                if nullable {
                    w.put_i8(if null { -1 } else { 1 });
                }
                if !(nullable && null) {
                    self.body(w, schema, depth + 1);
                }
            }
        }
    }
}

/// The bytes of a random message.
pub fn generate<M: Message>(random: &mut Random, version: i16) -> Bytes {
    let flexible = M::SCHEMA.flexible.contains(version);
    let mut w = Writer::new();
    Generator { random, version, flexible }.body(&mut w, M::SCHEMA, 0);
    w.finish().into_bytes()
}
