//! `#[derive(Message)]`: a plain Rust struct is the schema of a Kafka message.
//!
//! On the struct: `#[message(api = 1, kind = "request", versions = "0-18", flexible = "12+", response = FetchResponse)]`
//! for a message of its own; a struct that is only a field of others needs no such line. On a field, all optional:
//! `#[field(versions = "4+", nullable = "7+", tag = 0, tagged = "12+", default = -1, ignorable)]`.
//! A field without `versions` is in every version. The derive writes `Default` with Kafka's defaults, the codec, and a
//! schema constant that a test holds against Kafka's own definitions. Tags from 10000 on are Esker's own: clients skip them, and
//! the schema leaves them out.
//!
//! Must never: decide anything about a message beyond its attributes.

mod attributes;
mod expand;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// See the crate's documentation.
#[proc_macro_derive(Message, attributes(message, field))]
pub fn derive_message(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand::expand(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}
