//! How a record is printed.

use std::io::{self, Write};

use bytes::Bytes;
use esker_client::ConsumedRecord;
use serde_json::{Value, json};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Topic,
    Partition,
    Offset,
    Time,
    Key,
    Value,
    Headers,
}

/// A format with `%` places, as kcat has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format(Vec<Piece>);

impl Format {
    /// Reads a format. What is no place and no escape stands for itself.
    pub fn parse(text: &str) -> Self {
        let (mut pieces, mut plain) = (Vec::new(), String::new());
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let piece = match (c, chars.as_str().chars().next()) {
                ('%', Some('t')) => Some(Piece::Topic),
                ('%', Some('p')) => Some(Piece::Partition),
                ('%', Some('o')) => Some(Piece::Offset),
                ('%', Some('T')) => Some(Piece::Time),
                ('%', Some('k')) => Some(Piece::Key),
                ('%', Some('s')) => Some(Piece::Value),
                ('%', Some('h')) => Some(Piece::Headers),
                ('%', Some('%')) => Some(Piece::Text("%".to_owned())),
                ('\\', Some('n')) => Some(Piece::Text("\n".to_owned())),
                ('\\', Some('t')) => Some(Piece::Text("\t".to_owned())),
                ('\\', Some('\\')) => Some(Piece::Text("\\".to_owned())),
                _ => None,
            };
            match piece {
                None => plain.push(c),
                Some(piece) => {
                    chars.next();
                    if !plain.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    }
                    pieces.push(piece);
                }
            }
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Self(pieces)
    }

    /// Prints one record.
    pub fn write(&self, record: &ConsumedRecord, out: &mut impl Write) -> io::Result<()> {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.write_all(text.as_bytes())?,
                Piece::Topic => out.write_all(record.topic.as_bytes())?,
                Piece::Partition => write!(out, "{}", record.partition)?,
                Piece::Offset => write!(out, "{}", record.offset)?,
                Piece::Time => write!(out, "{}", record.timestamp)?,
                Piece::Key => out.write_all(record.key.as_deref().unwrap_or_default())?,
                Piece::Value => out.write_all(record.value.as_deref().unwrap_or_default())?,
                Piece::Headers => {
                    for (at, (name, value)) in record.headers.iter().enumerate() {
                        let comma = if at > 0 { "," } else { "" };
                        write!(out, "{comma}{name}=")?;
                        out.write_all(value.as_deref().unwrap_or_default())?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// A record as JSON; bytes that are no text are replaced.
pub fn to_json(record: &ConsumedRecord) -> Value {
    let text = |bytes: &Option<Bytes>| bytes.as_ref().map(|b| String::from_utf8_lossy(b).into_owned());
    let headers: Vec<_> =
        record.headers.iter().map(|(name, value)| json!({"name": name, "value": text(value)})).collect();
    json!({
        "topic": record.topic, "partition": record.partition, "offset": record.offset, "timestamp": record.timestamp,
        "key": text(&record.key), "value": text(&record.value), "headers": headers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_escapes() {
        let record = ConsumedRecord {
            topic: "t".to_owned(),
            partition: 2,
            offset: 7,
            timestamp: 9,
            key: Some("k".into()),
            value: None,
            headers: vec![("a".to_owned(), Some("1".into())), ("b".to_owned(), None)],
        };
        let printed = |format: &str| {
            let mut out = Vec::new();
            Format::parse(format).write(&record, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(printed("%t-%p@%o %T %k=%s|%h\\n"), "t-2@7 9 k=|a=1,b=\n");
        assert_eq!(printed("100%% \\\\ %x"), "100% \\ %x");
    }
}
