//! What a message looks like in each version, as data: written by the derive, held against Kafka's definitions by a test.

/// An inclusive range of versions; empty when `last` lies before `first`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// First version.
    pub first: i16,
    /// Last version; `i16::MAX` is "and all after".
    pub last: i16,
}

impl Versions {
    /// Whether `version` lies in it.
    pub fn contains(self, version: i16) -> bool {
        self.first <= version && version <= self.last
    }

    /// Whether no version lies in it.
    pub fn is_empty(self) -> bool {
        self.last < self.first
    }
}

/// The type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `bool`
    Bool,
    /// `int8`
    Int8,
    /// `int16`
    Int16,
    /// `uint16`
    Uint16,
    /// `int32`
    Int32,
    /// `uint32`
    Uint32,
    /// `int64`
    Int64,
    /// `float64`
    Float64,
    /// `uuid`
    Uuid,
    /// `string`
    String,
    /// `bytes` or `records`
    Bytes,
    /// An array.
    Array(&'static Kind),
    /// A struct.
    Struct(&'static Schema),
}

/// One field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name, in snake case.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Versions that have it.
    pub versions: Versions,
    /// Versions in which it may be null.
    pub nullable: Versions,
    /// Versions in which it is a tagged field.
    pub tagged: Versions,
    /// Its tag.
    pub tag: Option<u32>,
    /// Its default as written in the source, empty for the type's own.
    pub default: &'static str,
    /// Whether a value may be dropped silently in versions that lack it.
    pub ignorable: bool,
}

/// One struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schema {
    /// Its name.
    pub name: &'static str,
    /// Versions of the message; all for a struct inside another.
    pub versions: Versions,
    /// Versions with compact lengths and tagged fields.
    pub flexible: Versions,
    /// Its fields, in wire order.
    pub fields: &'static [Field],
}
