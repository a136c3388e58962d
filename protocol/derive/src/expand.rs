//! The code that a derive writes. It leans on generic helpers of the protocol crate, so that little is generated for each
//! of some hundred and eighty messages.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::ext::IdentExt;
use syn::{Data, DeriveInput, Error, Fields, GenericArgument, Ident, PathArguments, Result, Type};

use crate::attributes::{FieldAttr, MessageAttr, Versions};

struct Field<'a> {
    ident: &'a Ident,
    name: String,
    ty: &'a Type,
    /// The type inside `Option<...>`, if it is one.
    inner: Option<&'a Type>,
    attr: FieldAttr,
}

pub fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(input, "a message is a struct"));
    };
    let Fields::Named(named) = &data.fields else {
        return Err(Error::new_spanned(input, "a message has named fields"));
    };
    let mut fields = Vec::new();
    for field in &named.named {
        let Some(ident) = &field.ident else { continue };
        fields.push(Field {
            ident,
            name: ident.unraw().to_string(),
            ty: &field.ty,
            inner: option_inner(&field.ty),
            attr: FieldAttr::parse(&field.attrs)?,
        });
    }
    let attr = MessageAttr::parse(&input.attrs)?;
    let root = root();
    let parts =
        [default_impl(input, &fields), value_impl(input, &fields, &attr, &root)?, message_impl(input, &attr, &root)?];
    Ok(parts.into_iter().collect())
}

/// The protocol crate as the code being compiled names it.
fn root() -> TokenStream {
    if std::env::var("CARGO_PKG_NAME").as_deref() == Ok("esker-protocol") {
        quote!(crate)
    } else {
        quote!(::esker_protocol)
    }
}

fn option_inner(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    if last.ident != "Option" {
        return None;
    }
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    match arguments.args.first()? {
        GenericArgument::Type(inner) => Some(inner),
        _ => None,
    }
}

fn default_of(field: &Field<'_>) -> TokenStream {
    match &field.attr.default {
        Some(default) => quote!(#default),
        None => quote!(::core::default::Default::default()),
    }
}

fn default_impl(input: &DeriveInput, fields: &[Field<'_>]) -> TokenStream {
    let name = &input.ident;
    let values = fields.iter().map(|f| {
        let (ident, default) = (f.ident, default_of(f));
        quote!(#ident: #default,)
    });
    quote! {
        impl ::core::default::Default for #name {
            fn default() -> Self {
                Self { #(#values)* }
            }
        }
    }
}

/// `v` lies in the range; `true` when the range is everything.
fn holds(range: Versions) -> TokenStream {
    let Versions { first, last } = range;
    match (first <= 0, last == i16::MAX) {
        (true, true) => quote!(true),
        (false, true) => quote!((v >= #first)),
        (true, false) => quote!((v <= #last)),
        (false, false) => quote!((#first..=#last).contains(&v)),
    }
}

fn read_of(field: &Field<'_>, root: &TokenStream) -> TokenStream {
    match field.inner {
        Some(inner) => {
            let nullable = holds(field.attr.nullable);
            quote!(#root::wire::read_nullable::<#inner>(r, c, #nullable)?)
        }
        None => {
            let ty = field.ty;
            quote!(<#ty as #root::wire::Value>::read(r, c)?)
        }
    }
}

fn write_of(field: &Field<'_>, root: &TokenStream, writer: &TokenStream) -> TokenStream {
    let ident = field.ident;
    match field.inner {
        Some(_) if field.name.ends_with("error_message") => {
            let nullable = holds(field.attr.nullable);
            quote!(#root::wire::write_text(self.#ident.as_ref(), #writer, c, #nullable)?)
        }
        Some(inner) => {
            let nullable = holds(field.attr.nullable);
            quote!(#root::wire::write_nullable::<#inner>(self.#ident.as_ref(), #writer, c, #nullable)?)
        }
        None => {
            let ty = field.ty;
            quote!(<#ty as #root::wire::Value>::write(&self.#ident, #writer, c)?)
        }
    }
}

fn value_impl(
    input: &DeriveInput,
    fields: &[Field<'_>],
    attr: &MessageAttr,
    root: &TokenStream,
) -> Result<TokenStream> {
    let name = &input.ident;
    let (mut reads, mut writes, mut tag_reads, mut tag_writes, mut minimum) = (vec![], vec![], vec![], vec![], vec![]);
    let mut tagged: Vec<_> = fields.iter().filter(|f| f.attr.tag.is_some()).collect();
    tagged.sort_by_key(|f| f.attr.tag.as_ref().and_then(|t| t.base10_parse::<u32>().ok()));
    for field in fields {
        let (ident, in_version) = (field.ident, holds(field.attr.versions));
        let plain = match field.attr.tag {
            None => in_version.clone(),
            Some(_) => {
                let tagged = holds(field.attr.tagged);
                quote!((#in_version && !#tagged))
            }
        };
        let never_plain = field.attr.tag.is_some() && field.attr.tagged == field.attr.versions;
        if !never_plain {
            let (read, write) = (read_of(field, root), write_of(field, root, &quote!(w)));
            reads.push(quote!(if #plain { m.#ident = #read; }));
            writes.push(quote!(if #plain { #write; }));
        }
        if field.attr.versions != Versions::ALL && !field.attr.ignorable {
            let (default, label) = (default_of(field), format!("{name}.{}", field.name));
            let ty = field.ty;
            writes.push(quote!(if !#in_version {
                let default: #ty = #default;
                #root::wire::must_be_default(self.#ident == default, #label, v)?;
            }));
        }
        if field.attr.tag.is_none() && field.attr.versions == Versions::ALL {
            let ty = field.inner.unwrap_or(field.ty);
            minimum.push(quote!(+ <#ty as #root::wire::Value>::MINIMUM));
        }
    }
    for field in tagged {
        let (ident, tag, ty, default) = (field.ident, &field.attr.tag, field.ty, default_of(field));
        let in_tags = holds(field.attr.tagged);
        let (read, write) = (read_of(field, root), write_of(field, root, &quote!(t)));
        tag_reads.push(quote!(#tag if #in_tags => m.#ident = #read,));
        tag_writes.push(quote!({
            let default: #ty = #default;
            if #in_tags && self.#ident != default {
                let t = tags.begin(#tag);
                #write;
            }
        }));
    }
    let tags_in = if tag_reads.is_empty() {
        quote!(if c.flexible {
            r.skip_tags()?;
        })
    } else {
        quote!(if c.flexible {
            #root::wire::read_tags(r, |tag, r| {
                match tag {
                    #(#tag_reads)*
                    _ => return Ok(false),
                }
                Ok(true)
            })?;
        })
    };
    let tags_out = if tag_writes.is_empty() {
        quote!(if c.flexible {
            w.put_uvarint(0);
        })
    } else {
        quote!(if c.flexible {
            let mut tags = #root::wire::Tags::new();
            #(#tag_writes)*
            tags.write(w)?;
        })
    };
    let schema = schema_const(name, fields, attr, root);
    Ok(quote! {
        impl #name {
            #schema
        }

        #[allow(unused_variables, clippy::nonminimal_bool, clippy::overly_complex_bool_expr)]
        impl #root::wire::Value for #name {
            const KIND: #root::schema::Kind = #root::schema::Kind::Struct(&#name::FIELDS);
            const MINIMUM: usize = 0 #(#minimum)*;

            fn read(r: &mut #root::primitives::Reader, c: #root::wire::Codec)
                -> ::core::result::Result<Self, #root::primitives::DecodeError>
            {
                let v = c.version;
                let mut m = Self::default();
                #(#reads)*
                #tags_in
                Ok(m)
            }

            fn write(&self, w: &mut #root::primitives::Writer, c: #root::wire::Codec)
                -> ::core::result::Result<(), #root::primitives::EncodeError>
            {
                let v = c.version;
                #(#writes)*
                #tags_out
                Ok(())
            }
        }
    })
}

fn versions_expr(range: Versions, root: &TokenStream) -> TokenStream {
    let Versions { first, last } = range;
    quote!(#root::schema::Versions { first: #first, last: #last })
}

/// Tags from here on are fields that Kafka does not have: no part of the schema that is held against Kafka's.
const FIRST_OWN_TAG: u32 = 10_000;

fn schema_const(name: &Ident, fields: &[Field<'_>], attr: &MessageAttr, root: &TokenStream) -> TokenStream {
    let tag_of = |f: &Field<'_>| f.attr.tag.as_ref().and_then(|tag| tag.base10_parse::<u32>().ok());
    let entries = fields.iter().filter(|f| tag_of(f).is_none_or(|tag| tag < FIRST_OWN_TAG)).map(|f| {
        let label = &f.name;
        let ty = f.inner.unwrap_or(f.ty);
        let (versions, nullable, tagged) = (
            versions_expr(f.attr.versions, root),
            versions_expr(f.attr.nullable, root),
            versions_expr(f.attr.tagged, root),
        );
        let tag = match &f.attr.tag {
            Some(tag) => quote!(Some(#tag)),
            None => quote!(None),
        };
        let default = f.attr.default.as_ref().map(|d| quote!(#d).to_string()).unwrap_or_default();
        let ignorable = f.attr.ignorable;
        quote!(#root::schema::Field {
            name: #label, kind: <#ty as #root::wire::Value>::KIND, versions: #versions, nullable: #nullable,
            tagged: #tagged, tag: #tag, default: #default, ignorable: #ignorable,
        },)
    });
    let label = name.to_string();
    let (versions, flexible) = (
        versions_expr(attr.versions.unwrap_or(Versions::ALL), root),
        versions_expr(attr.flexible.unwrap_or(Versions::NONE), root),
    );
    quote! {
        #[doc(hidden)]
        pub const FIELDS: #root::schema::Schema = #root::schema::Schema {
            name: #label, versions: #versions, flexible: #flexible, fields: &[#(#entries)*],
        };
    }
}

fn message_impl(input: &DeriveInput, attr: &MessageAttr, root: &TokenStream) -> Result<TokenStream> {
    if !attr.present {
        return Ok(TokenStream::new());
    }
    let name = &input.ident;
    let missing = |what: &str| Error::new(Span::call_site(), format!("#[message] needs {what}"));
    let versions = attr.versions.ok_or_else(|| missing("versions"))?;
    let (first, last) = (versions.first, versions.last);
    let mut code = quote! {
        impl #root::Message for #name {
            const SCHEMA: &'static #root::schema::Schema = &#name::FIELDS;
        }
    };
    if attr.request {
        let api = attr.api.as_ref().ok_or_else(|| missing("api"))?;
        let response = attr.response.as_ref().ok_or_else(|| missing("response"))?;
        code.extend(quote! {
            impl #root::Request for #name {
                const KEY: #root::api::ApiKey = #root::api::ApiKey(#api);
                const VERSIONS: ::core::ops::RangeInclusive<i16> = #first..=#last;
                type Response = #response;
            }
        });
    }
    Ok(code)
}
