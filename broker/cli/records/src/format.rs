//! How a record is printed.

use std::io::{self, Write};

use esker_client::ConsumerRecord;
use serde_json::{Map, Value, json};

use super::error::CliError;

/// The places of a format, for messages.
const PLACES: &str = "%t topic, %p partition, %o offset, %T time, %k key, %s value, %h headers, %% a percent sign";

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
    /// Reads a format. Text that is no place and no escape is printed as it is; an unknown place is refused.
    pub fn parse(text: &str) -> Result<Self, CliError> {
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
                ('%', unknown) => {
                    let unknown: String = unknown.into_iter().collect();
                    return Err(CliError::Usage(format!("--format knows no '%{unknown}'; it knows {PLACES}")));
                }
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
        Ok(Self(pieces))
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

/// A record as JSON. Bytes that are not UTF-8 become base64, and a field NAME_encoding says so.
pub fn to_json(record: &ConsumerRecord) -> Value {
    let headers = record.headers.iter().map_while(Result::ok).map(|header| {
        let mut fields = Map::from_iter([("name".to_owned(), json!(header.name()))]);
        insert_bytes(&mut fields, "value", header.value);
        Value::Object(fields)
    });
    let headers = headers.collect();
    let mut fields = Map::from_iter([
        ("topic".to_owned(), json!(record.topic.as_str())),
        ("partition".to_owned(), json!(record.partition)),
        ("offset".to_owned(), json!(record.offset)),
        ("timestamp".to_owned(), json!(record.timestamp)),
    ]);
    insert_bytes(&mut fields, "key", record.key.as_deref());
    insert_bytes(&mut fields, "value", record.value.as_deref());
    fields.insert("headers".to_owned(), Value::Array(headers));
    Value::Object(fields)
}

fn insert_bytes(fields: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    let value = match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        None => Value::Null,
        Some(Ok(text)) => json!(text),
        Some(Err(bytes)) => {
            fields.insert(format!("{name}_encoding"), json!("base64"));
            json!(to_base64(bytes))
        }
    };
    fields.insert(name.to_owned(), value);
}

/// Base64 with the standard alphabet and padding (RFC 4648, section 4).
fn to_base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = ALPHABET.get(((bits >> (18 - 6 * place)) & 63) as usize).filter(|_| place <= group.len());
            text.push(digit.map_or('=', |digit| char::from(*digit)));
        }
    }
    text
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
            Format::parse(format).unwrap().write(&record, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(printed("%t-%p@%o %T %k=%s|%h\\n"), "t-2@7 9 k=|a=1,b=\n");
        let json = to_json(&record);
        assert_eq!(
            (json["key"].as_str(), json["value"].is_null(), json["headers"][0]["value"].as_str()),
            (Some("k"), true, Some("1"))
        );
        assert_eq!(printed("100%% \\\\ \\x"), "100% \\ \\x");
    }

    #[test]
    fn unknown_places_are_refused() {
        for bad in ["%x", "100%"] {
            let message = Format::parse(bad).unwrap_err().to_string();
            assert!(message.contains("%T time"), "{message}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_base64() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(to_base64(bytes.as_bytes()), text);
        }
        let mut fields = Map::new();
        insert_bytes(&mut fields, "key", Some(b"k"));
        insert_bytes(&mut fields, "value", Some(&[0xff, 0xfe]));
        assert_eq!(Value::Object(fields), json!({"key": "k", "value": "//4=", "value_encoding": "base64"}));
    }
}
