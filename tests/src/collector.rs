//! A receiver of OTLP over HTTP for tests: it keeps what was exported to it, and reads spans without a library.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request that was exported: its path and its body.
type Export = (String, Vec<u8>);

/// See the module.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    exports: Arc<Mutex<Vec<Export>>>,
}

/// A span as a test looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedSpan {
    /// The node that it comes from.
    pub node: String,
    /// Its trace, in hexadecimal digits.
    pub trace_id: String,
    /// Its own id.
    pub span_id: String,
    /// The span that it is part of; empty for the first of a trace.
    pub parent: String,
    /// What it is.
    pub name: String,
    /// Start and end, ns since 1970.
    pub times: [u64; 2],
    /// Its attributes as text.
    pub attributes: Vec<(String, String)>,
    /// The traces that it is linked to.
    pub links: Vec<String>,
}

impl ReceivedSpan {
    /// An attribute; empty if it is not there.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

impl Collector {
    /// Listens on a free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let exports = Arc::<Mutex<Vec<Export>>>::default();
        let received = Arc::clone(&exports);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let received = Arc::clone(&received);
                std::thread::spawn(move || serve(stream, &received));
            }
        });
        Self { address, exports }
    }

    /// What `otlp.endpoint` has to be.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Bodies that were exported to a path.
    pub fn bodies(&self, path: &str) -> Vec<Vec<u8>> {
        let exports = self.exports.lock().expect("no test panics with it");
        exports.iter().filter(|(to, _)| to == path).map(|(_, body)| body.clone()).collect()
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        self.bodies("/v1/traces").iter().flat_map(|body| spans_of(body)).collect()
    }
}

fn serve(stream: TcpStream, received: &Mutex<Vec<Export>>) {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut length = 0;
        loop {
            line.clear();
            reader.read_line(&mut line).expect("a header");
            match line.trim().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().expect("a length");
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("a body");
        received.lock().expect("no test panics with it").push((path, body));
        reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("the exporter reads");
        line.clear();
    }
}

/// The value of a protobuf field.
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Fields of a protobuf message, by number.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let (byte, rest) = bytes.split_first().expect("a whole message");
            *bytes = rest;
            value |= u64::from(byte & 127) << shift;
            shift += 7;
            if byte & 128 == 0 {
                return value;
            }
        }
    }
    fn take<'a>(bytes: &mut &'a [u8], length: usize) -> &'a [u8] {
        let (taken, rest) = bytes.split_at(length);
        *bytes = rest;
        taken
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Number(varint(&mut bytes)),
            1 => Field::Number(u64::from_le_bytes(take(&mut bytes, 8).try_into().expect("8 bytes"))),
            5 => Field::Number(u32::from_le_bytes(take(&mut bytes, 4).try_into().expect("4 bytes")).into()),
            2 => {
                let length = varint(&mut bytes) as usize;
                Field::Bytes(take(&mut bytes, length))
            }
            kind => panic!("a field of kind {kind}"),
        };
        found.push((key >> 3, field));
    }
    found
}

/// The bytes of fields with a number.
fn all(message: &[u8], number: u64) -> Vec<&[u8]> {
    let bytes = |(at, field)| match field {
        Field::Bytes(bytes) if at == number => Some(bytes),
        _ => None,
    };
    fields(message).into_iter().filter_map(bytes).collect()
}

fn one(message: &[u8], number: u64) -> &[u8] {
    all(message, number).first().copied().unwrap_or_default()
}

fn number(message: &[u8], number: u64) -> u64 {
    let value = |(at, field)| match field {
        Field::Number(value) if at == number => Some(value),
        _ => None,
    };
    fields(message).into_iter().find_map(value).unwrap_or_default()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(message: &[u8], at: u64) -> Vec<(String, String)> {
    let attribute = |pair: &[u8]| {
        let value = one(pair, 2);
        let value = match one(value, 1) {
            [] => number(value, 3).cast_signed().to_string(),
            value => text(value),
        };
        (text(one(pair, 1)), value)
    };
    all(message, at).into_iter().map(attribute).collect()
}

fn spans_of(body: &[u8]) -> Vec<ReceivedSpan> {
    let mut spans = Vec::new();
    for resource in all(body, 1) {
        let of = attributes(one(resource, 1), 1);
        let node = of.iter().find(|(key, _)| key == "service.instance.id").map(|(_, value)| value.clone());
        for span in all(resource, 2).into_iter().flat_map(|scope| all(scope, 2)) {
            spans.push(ReceivedSpan {
                node: node.clone().expect("a node"),
                trace_id: hex(one(span, 1)),
                span_id: hex(one(span, 2)),
                parent: hex(one(span, 4)),
                name: text(one(span, 5)),
                times: [number(span, 7), number(span, 8)],
                attributes: attributes(span, 9),
                links: all(span, 13).into_iter().map(|link| hex(one(link, 1))).collect(),
            });
        }
    }
    spans
}
