//! Our messages against Kafka's own definitions: every API, field and version, with nullability, tags, defaults and what may be
//! dropped silently.
//!
//! `ESKER_KAFKA_MESSAGES` names a folder with the definitions (`common/message/*.json` of a kafka-clients jar);
//! `tests/run compat/kafka-messages` fetches it and runs this. Without it there is nothing to compare with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test fails by a panic

#[macro_use]
#[path = "../shared/apis.rs"]
mod apis;

use std::path::{Path, PathBuf};

use esker_protocol::messages::*;
use esker_protocol::schema::{Field, Kind, Schema, Versions};
use esker_protocol::{Message, Request};
use serde_json::Value;

/// Fields that Kafka 4 dropped together with the versions that have them, and that we still serve.
const OLDER: &[(&str, &str)] = &[
    ("ListOffsetsPartition", "max_num_offsets"),
    ("ListOffsetsPartitionResponse", "old_style_offsets"),
    ("OffsetCommitRequestPartition", "commit_timestamp"),
    ("DescribeConfigsResourceResult", "is_default"),
];

fn definition(folder: &Path, name: &str) -> Value {
    let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
    // The files have comments, which begin a line or follow a comma.
    let plain: Vec<&str> = text
        .lines()
        .map(|line| if line.trim_start().starts_with("//") { "" } else { line.split(", //").next().unwrap_or(line) })
        .collect();
    serde_json::from_str(&plain.join("\n")).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn versions(text: Option<&Value>) -> Versions {
    let none = Versions { first: 0, last: -1 };
    let Some(text) = text.and_then(Value::as_str).filter(|text| *text != "none") else { return none };
    let number = |part: &str| part.parse::<i16>().unwrap();
    match (text.strip_suffix('+'), text.split_once('-')) {
        (Some(first), _) => Versions { first: number(first), last: i16::MAX },
        (_, Some((first, last))) => Versions { first: number(first), last: number(last) },
        _ => Versions { first: number(text), last: number(text) },
    }
}

fn snake(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (at, c) in chars.iter().enumerate() {
        let before = at.checked_sub(1).map(|i| chars[i]);
        let after = chars.get(at + 1);
        let new_word =
            c.is_uppercase() && before.is_some_and(|b| !b.is_uppercase() || after.is_some_and(|a| a.is_lowercase()));
        if new_word {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

fn same_kind(kind: Kind, text: &str) -> bool {
    match (kind, text) {
        (Kind::Array(item), text) => text.strip_prefix("[]").is_some_and(|text| same_kind(*item, text)),
        (Kind::Bool, "bool")
        | (Kind::Int8, "int8")
        | (Kind::Int16, "int16")
        | (Kind::Uint16, "uint16")
        | (Kind::Int32, "int32")
        | (Kind::Uint32, "uint32")
        | (Kind::Int64, "int64")
        | (Kind::Float64, "float64")
        | (Kind::Uuid, "uuid")
        | (Kind::String, "string")
        | (Kind::Bytes, "bytes" | "records") => true,
        // A struct that a request and its response both have is named apart in the response.
        (Kind::Struct(schema), text) => {
            schema.name.strip_suffix("Result").unwrap_or(schema.name) == text || schema.name == text
        }
        _ => false,
    }
}

/// Our default as Kafka would write it.
fn default_of(field: &Field, nullable: bool) -> String {
    let ours: String = field.default.chars().filter(|c| !c.is_whitespace()).collect();
    match ours.as_str() {
        "" if nullable => "null".to_owned(),
        "" => match field.kind {
            Kind::Bool => "false".to_owned(),
            Kind::String | Kind::Bytes | Kind::Array(_) | Kind::Struct(_) | Kind::Uuid => String::new(),
            _ => "0".to_owned(),
        },
        "i64::MAX" => i64::MAX.to_string(),
        "i32::MAX" => i32::MAX.to_string(),
        "i32::MIN" => i32::MIN.to_string(),
        text if text.starts_with("Some(") => String::new(),
        text => text.trim_start_matches("ErrorCode(").trim_end_matches(')').to_owned(),
    }
}

fn kafkas_default(definition: &Value, field: &Field) -> String {
    let plain = match field.kind {
        Kind::Bool => "false",
        Kind::String | Kind::Bytes | Kind::Array(_) | Kind::Struct(_) | Kind::Uuid => "",
        _ => "0",
    };
    let text = match definition.get("default") {
        None => plain.to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    match text.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).unwrap().to_string(),
        None => text,
    }
}

fn compare(schema: &Schema, fields: &Value, common: &Value, range: Versions, wrong: &mut Vec<String>) {
    let kafkas: Vec<&Value> =
        fields.as_array().unwrap().iter().filter(|f| !versions(f.get("versions")).is_empty()).collect();
    let names: Vec<String> = kafkas.iter().map(|f| snake(f["name"].as_str().unwrap())).collect();
    let ours: Vec<&Field> = schema.fields.iter().filter(|f| !OLDER.contains(&(schema.name, f.name))).collect();
    if !ours.iter().map(|f| f.name).eq(names.iter().map(String::as_str)) {
        let have: Vec<_> = ours.iter().map(|f| f.name).collect();
        return wrong.push(format!("{}: {have:?}, Kafka has {names:?}", schema.name));
    }
    for (field, kafka) in ours.into_iter().zip(kafkas) {
        let mut check = |what: &str, same: bool| {
            if !same {
                wrong.push(format!("{}.{}: {what}", schema.name, field.name));
            }
        };
        let (there, nullable) = (versions(kafka.get("versions")), versions(kafka.get("nullableVersions")));
        let tagged = versions(kafka.get("taggedVersions"));
        for v in range.first..=range.last {
            check(&format!("v{v} presence"), field.versions.contains(v) == there.contains(v));
            if there.contains(v) {
                check(&format!("v{v} null"), field.nullable.contains(v) == nullable.contains(v));
                check(&format!("v{v} tag"), field.tagged.contains(v) == tagged.contains(v));
            }
        }
        check("tag", field.tag.map(u64::from) == kafka.get("tag").and_then(Value::as_u64));
        let kind = kafka["type"].as_str().unwrap();
        check("type", same_kind(field.kind, kind));
        let may_be_null = !field.nullable.is_empty();
        check("default", default_of(field, may_be_null) == kafkas_default(kafka, field));
        let everywhere = there.first == 0 && there.last == i16::MAX;
        let ignorable = kafka.get("ignorable").is_some_and(|i| i.as_bool() == Some(true) || i.as_str() == Some("true"));
        check("ignorable", everywhere || field.ignorable == ignorable);
        let mut inner = field.kind;
        while let Kind::Array(item) = inner {
            inner = *item;
        }
        if let Kind::Struct(inner) = inner {
            let name = kind.trim_start_matches("[]");
            let shared = common.as_array().and_then(|all| all.iter().find(|c| c["name"] == name));
            let fields = kafka.get("fields").or_else(|| shared.and_then(|c| c.get("fields"))).unwrap();
            let within = Versions { first: range.first.max(there.first), last: range.last.min(there.last) };
            compare(inner, fields, common, within, wrong);
        }
    }
}

fn one(folder: &Path, schema: &Schema, wrong: &mut Vec<String>) {
    let definition = definition(folder, schema.name);
    let valid = versions(definition.get("validVersions"));
    if schema.versions.last != valid.last || schema.versions.first > valid.first {
        wrong.push(format!("{}: versions {:?}, Kafka has {valid:?}", schema.name, schema.versions));
    }
    let flexible = versions(definition.get("flexibleVersions"));
    if schema.flexible != flexible {
        wrong.push(format!("{}: flexible {:?}, Kafka has {flexible:?}", schema.name, schema.flexible));
    }
    let common = definition.get("commonStructs").cloned().unwrap_or_default();
    compare(schema, &definition["fields"], &common, valid, wrong);
}

fn request_and_response<R: Request>(folder: &Path, wrong: &mut Vec<String>) {
    one(folder, R::SCHEMA, wrong);
    one(folder, R::Response::SCHEMA, wrong);
    let definition = definition(folder, R::SCHEMA.name);
    if definition["apiKey"].as_i64() != Some(i64::from(R::KEY.0)) {
        wrong.push(format!("{}: API key {:?}", R::SCHEMA.name, R::KEY));
    }
}

const REQUESTS: &[fn(&Path, &mut Vec<String>)] = &for_every_request!(request_and_response);

#[test]
fn messages_are_kafkas() {
    let Some(folder) = std::env::var_os("ESKER_KAFKA_MESSAGES").map(PathBuf::from) else {
        return eprintln!("ESKER_KAFKA_MESSAGES is not set: nothing to compare with");
    };
    let mut wrong = Vec::new();
    REQUESTS.iter().for_each(|compare| compare(&folder, &mut wrong));
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    // Nothing that Kafka serves today is missing.
    let mut served = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(name) = name.strip_suffix(".json").filter(|name| name.ends_with("Request")) {
            served += usize::from(!versions(definition(&folder, name).get("validVersions")).is_empty());
        }
    }
    assert_eq!(REQUESTS.len(), served, "APIs of Kafka that are missing here");
    println!("{served} APIs are Kafka's, requests and responses");
}
