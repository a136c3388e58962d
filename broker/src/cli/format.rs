//! How a record is printed.

use std::io::{self, Write};

use esker_client::ConsumerRecord;
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
    /// Reads a format. Text that is no placeholder and no escape is printed as it is.
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
    pub fn write(&self, record: &ConsumerRecord, out: &mut impl Write) -> io::Result<()> {
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
                    // A header that does not read ends the list.
                    for (at, header) in record.headers.iter().map_while(Result::ok).enumerate() {
                        let comma = if at > 0 { "," } else { "" };
                        write!(out, "{comma}{}=", header.name())?;
                        out.write_all(header.value.unwrap_or_default())?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// A record as JSON; bytes that are no text are replaced.
pub fn to_json(record: &ConsumerRecord) -> Value {
    let text = |bytes: Option<&[u8]>| bytes.map(|b| String::from_utf8_lossy(b).into_owned());
    let headers = record.headers.iter().map_while(Result::ok);
    let headers: Vec<_> = headers.map(|h| json!({"name": h.name(), "value": text(h.value)})).collect();
    json!({
        "topic": record.topic.as_str(), "partition": record.partition, "offset": record.offset, "timestamp": record.timestamp,
        "key": text(record.key.as_deref()), "value": text(record.value.as_deref()), "headers": headers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use esker_protocol::compression::Compression;
    use esker_protocol::records::{Batch, BatchBuilder, RecordHeader};

    #[test]
    fn places_and_escapes() {
        let mut builder = BatchBuilder::new(Compression::None).base_offset(7);
        let headers = [RecordHeader::new("a", Some(b"1")), RecordHeader::new("b", None)];
        builder.append(0, 9, Some(b"k"), None, &headers);
        let (batch, _) = Batch::parse(builder.build().unwrap()).unwrap();
        let read = batch.records(100).unwrap().next().unwrap().unwrap();
        let record = ConsumerRecord {
            topic: "t".into(),
            partition: 2,
            offset: read.offset,
            timestamp: read.timestamp,
            log_append_time: false,
            leader_epoch: 0,
            key: read.key,
            value: read.value,
            headers: read.headers,
        };
        let printed = |format: &str| {
            let mut out = Vec::new();
            Format::parse(format).write(&record, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(printed("%t-%p@%o %T %k=%s|%h\\n"), "t-2@7 9 k=|a=1,b=\n");
        let json = to_json(&record);
        assert_eq!(
            (json["key"].as_str(), json["value"].is_null(), json["headers"][0]["value"].as_str()),
            (Some("k"), true, Some("1"))
        );
        assert_eq!(printed("100%% \\\\ %x"), "100% \\ %x");
    }
}
