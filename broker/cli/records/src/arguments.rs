//! What arguments of several commands stand for.

use std::collections::BTreeSet;

use esker_client::{Acks, Compression};
use esker_protocol::primitives::Str;

use super::error::CliError;

/// The names without repetitions, in their order.
pub fn distinct(names: &[String]) -> Vec<Str> {
    let mut seen = BTreeSet::new();
    names.iter().filter(|name| seen.insert(name.as_str())).map(|name| Str::copy(name)).collect()
}

/// Keys and values of arguments `KEY=VALUE`.
pub fn pairs(configs: &[String]) -> Result<Vec<(Str, Str)>, CliError> {
    let pair = |text: &String| {
        let (key, value) = text.split_once('=').ok_or_else(|| CliError::Usage(format!("'{text}' is not KEY=VALUE")))?;
        Ok((Str::copy(key.trim()), Str::copy(value.trim())))
    };
    configs.iter().map(pair).collect()
}

/// The value of `--acks`.
pub(crate) fn parse_acks(text: &str) -> Result<Acks, CliError> {
    match text {
        "all" | "-1" => Ok(Acks::All),
        "1" => Ok(Acks::Leader),
        "0" => Ok(Acks::None),
        other => Err(CliError::Usage(format!("--acks is all, 1 or 0, not {other}"))),
    }
}

/// The value of `--compression`.
pub(crate) fn parse_compression(text: &str) -> Result<Compression, CliError> {
    let unknown = || CliError::Usage(format!("unknown codec {text}: none, gzip, snappy, lz4, zstd"));
    Compression::from_name(text).ok_or_else(unknown)
}

/// The bytes that a text with escapes stands for: `\t`, `\n`, `\r`, `\0`, `\\` and `\xNN`.
pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, CliError> {
    let invalid = || CliError::Usage(format!(r"'{text}' has an unknown escape; known are \t, \n, \r, \0, \\, \xNN"));
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next() {
                Some(b't') => b'\t',
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b'0') => 0,
                Some(b'\\') => b'\\',
                Some(b'x') => {
                    let mut digit = || char::from(rest.next()?).to_digit(16);
                    let number = digit().zip(digit()).map(|(high, low)| high * 16 + low);
                    number.and_then(|number| u8::try_from(number).ok()).ok_or_else(invalid)?
                }
                _ => return Err(invalid()),
            },
            plain => plain,
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_once_each() {
        let names = ["b", "a", "b"].map(str::to_owned);
        assert_eq!(distinct(&names), ["b", "a"].map(Str::copy));
    }

    #[test]
    fn values_may_hold_equals_signs() {
        assert_eq!(pairs(&["a = b=c".to_owned()]).unwrap(), [(Str::copy("a"), Str::copy("b=c"))]);
        assert!(pairs(&["a".to_owned()]).is_err());
    }

    #[test]
    fn escapes_become_bytes() {
        assert_eq!(unescape(r"a\t\n\r\0\\\x1F\xff").unwrap(), b"a\t\n\r\0\\\x1f\xff");
        assert_eq!(unescape("::é").unwrap(), "::é".as_bytes());
        for bad in [r"\", r"\q", r"\x1", r"\xg0", r"\x+1"] {
            assert!(unescape(bad).is_err(), "{bad}");
        }
    }
}
