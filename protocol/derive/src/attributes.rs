//! What stands in `#[message(...)]` and `#[field(...)]`.

use syn::{Attribute, Expr, Ident, LitInt, LitStr, Result};

/// An inclusive range of versions, as Kafka writes it: `3`, `4+`, `0-12`, `none`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    pub first: i16,
    pub last: i16,
}

impl Versions {
    pub const ALL: Self = Self { first: 0, last: i16::MAX };
    pub const NONE: Self = Self { first: 0, last: -1 };

    fn parse(text: &LitStr) -> Result<Self> {
        let value = text.value();
        let number = |part: &str| part.parse::<i16>().map_err(|e| syn::Error::new(text.span(), e));
        if value == "none" {
            return Ok(Self::NONE);
        }
        if let Some(first) = value.strip_suffix('+') {
            return Ok(Self { first: number(first)?, last: i16::MAX });
        }
        match value.split_once('-') {
            Some((first, last)) => Ok(Self { first: number(first)?, last: number(last)? }),
            None => Ok(Self { first: number(&value)?, last: number(&value)? }),
        }
    }
}

/// `#[message(...)]`.
#[derive(Default)]
pub struct MessageAttr {
    pub present: bool,
    pub api: Option<LitInt>,
    pub request: bool,
    pub versions: Option<Versions>,
    pub flexible: Option<Versions>,
    pub response: Option<Ident>,
}

impl MessageAttr {
    pub fn parse(attributes: &[Attribute]) -> Result<Self> {
        let mut found = Self::default();
        for attribute in attributes.iter().filter(|a| a.path().is_ident("message")) {
            found.present = true;
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("api") {
                    found.api = Some(meta.value()?.parse()?);
                } else if meta.path.is_ident("kind") {
                    found.request = meta.value()?.parse::<LitStr>()?.value() == "request";
                } else if meta.path.is_ident("versions") {
                    found.versions = Some(Versions::parse(&meta.value()?.parse()?)?);
                } else if meta.path.is_ident("flexible") {
                    found.flexible = Some(Versions::parse(&meta.value()?.parse()?)?);
                } else if meta.path.is_ident("response") {
                    found.response = Some(meta.value()?.parse()?);
                } else {
                    return Err(meta.error("unknown key; allowed: api, kind, versions, flexible, response"));
                }
                Ok(())
            })?;
        }
        Ok(found)
    }
}

/// `#[field(...)]`.
pub struct FieldAttr {
    pub versions: Versions,
    pub nullable: Versions,
    pub tagged: Versions,
    pub tag: Option<LitInt>,
    pub default: Option<Expr>,
    pub ignorable: bool,
}

impl FieldAttr {
    pub fn parse(attributes: &[Attribute]) -> Result<Self> {
        let mut found = Self {
            versions: Versions::ALL,
            nullable: Versions::NONE,
            tagged: Versions::NONE,
            tag: None,
            default: None,
            ignorable: false,
        };
        for attribute in attributes.iter().filter(|a| a.path().is_ident("field")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("versions") {
                    found.versions = Versions::parse(&meta.value()?.parse()?)?;
                } else if meta.path.is_ident("nullable") {
                    found.nullable = Versions::parse(&meta.value()?.parse()?)?;
                } else if meta.path.is_ident("tagged") {
                    found.tagged = Versions::parse(&meta.value()?.parse()?)?;
                } else if meta.path.is_ident("tag") {
                    found.tag = Some(meta.value()?.parse()?);
                } else if meta.path.is_ident("default") {
                    found.default = Some(meta.value()?.parse()?);
                } else if meta.path.is_ident("ignorable") {
                    found.ignorable = true;
                } else {
                    return Err(meta.error("unknown key; allowed: versions, nullable, tagged, tag, default, ignorable"));
                }
                Ok(())
            })?;
        }
        if (found.tagged == Versions::NONE) != found.tag.is_none() {
            return Err(syn::Error::new_spanned(attributes.first(), "tag and tagged go together"));
        }
        Ok(found)
    }
}
