//! Kafka's uuid: 16 bytes, written as url-safe base64 without padding.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A 16-byte id of a topic, a directory or a cluster. All zero means "none" on the wire.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

/// A text that is no uuid in Kafka's form.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("'{0}' is not a uuid: 22 characters of url-safe base64 are needed")]
pub struct InvalidUuid(pub String);

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl Uuid {
    /// The zero id, which means "no id".
    pub const ZERO: Self = Self([0; 16]);

    /// Whether this is the zero id.
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(22);
        for group in self.0.chunks(3) {
            let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
            for i in 0..=group.len() {
                let at = (bits >> (18 - 6 * i)) & 63;
                text.extend(ALPHABET.get(at as usize).map(|c| char::from(*c)));
            }
        }
        f.pad(&text)
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Uuid {
    type Err = InvalidUuid;

    fn from_str(text: &str) -> Result<Self, InvalidUuid> {
        let invalid = || InvalidUuid(text.to_owned());
        if text.len() != 22 {
            return Err(invalid());
        }
        let mut bits = 0u128;
        let mut spare = 0;
        for (i, c) in text.bytes().enumerate() {
            let value = ALPHABET.iter().position(|a| *a == c).and_then(|v| u8::try_from(v).ok()).ok_or_else(invalid)?;
            if i < 21 {
                bits = bits << 6 | u128::from(value);
            } else {
                bits = bits << 2 | u128::from(value >> 4);
                spare = value & 15;
            }
        }
        if spare != 0 { Err(invalid()) } else { Ok(Self(bits.to_be_bytes())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_values() {
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(Uuid([0xff; 16]).to_string(), "_____________________w");
        assert_eq!("AAAAAAAAAAAAAAAAAAAAAQ".parse(), Ok(Uuid(1u128.to_be_bytes())));
        for bad in ["", "AAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAA+", "AAAAAAAAAAAAAAAAAAAAAB"] {
            assert!(bad.parse::<Uuid>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn text_and_back(id: [u8; 16]) {
            prop_assert_eq!(Uuid(id).to_string().parse(), Ok(Uuid(id)));
        }
    }
}
