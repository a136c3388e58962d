//! Answers on the wire. Several requests have an answer of the same type, so a body belongs to the type.

use esker_protocol::Message;
use esker_protocol::primitives::{DecodeError, EncodeError, Reader, Str, Writer};

use super::super::adopt::Adopted;
use super::super::balance::Balanced;
use super::super::decision::Refusal;
use super::bodies::{LeftBody, OutcomeBody, in_range, parts, whole};
use super::body::Body;

#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
struct AdoptedBody {
    topics: Vec<Str>,
    left: Vec<LeftBody>,
}

#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
struct OutcomesBody {
    outcomes: Vec<OutcomeBody>,
}

#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
struct BalancedBody {
    moved: i32,
    left: i32,
}

#[derive(Debug, Clone, PartialEq, Message)]
#[message(versions = "0", flexible = "0+")]
struct NumberBody {
    number: i64,
}

impl Body for () {
    fn put(&self, _: &mut Writer) -> Result<(), EncodeError> {
        Ok(())
    }

    fn get(_: &mut Reader) -> Result<Self, DecodeError> {
        Ok(())
    }
}

impl Body for i64 {
    fn put(&self, w: &mut Writer) -> Result<(), EncodeError> {
        NumberBody { number: *self }.encode(w, 0)
    }

    fn get(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(NumberBody::decode(r, 0)?.number)
    }
}

impl Body for i32 {
    fn put(&self, w: &mut Writer) -> Result<(), EncodeError> {
        i64::from(*self).put(w)
    }

    fn get(r: &mut Reader) -> Result<Self, DecodeError> {
        in_range(i64::get(r)?)
    }
}

impl Body for usize {
    fn put(&self, w: &mut Writer) -> Result<(), EncodeError> {
        i64::try_from(*self).unwrap_or(i64::MAX).put(w)
    }

    fn get(r: &mut Reader) -> Result<Self, DecodeError> {
        in_range(i64::get(r)?)
    }
}

impl Body for bool {
    fn put(&self, w: &mut Writer) -> Result<(), EncodeError> {
        i64::from(*self).put(w)
    }

    fn get(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(i64::get(r)? != 0)
    }
}

/// The outcome, and behind it what a request that was granted is answered with.
impl<T: Body> Body for Result<T, Refusal> {
    fn put(&self, w: &mut Writer) -> Result<(), EncodeError> {
        let outcome = self.as_ref().map(|_| ()).map_err(Refusal::clone);
        OutcomeBody::from(&outcome).encode(w, 0)?;
        self.as_ref().map_or(Ok(()), |granted| granted.put(w))
    }

    fn get(r: &mut Reader) -> Result<Self, DecodeError> {
        match Result::from(OutcomeBody::decode(r, 0)?) {
            Ok(()) => T::get(r).map(Ok),
            Err(refusal) => Ok(Err(refusal)),
        }
    }
}

impl Body for Vec<Result<(), Refusal>> {
    fn put(&self, w: &mut Writer) -> Result<(), EncodeError> {
        OutcomesBody { outcomes: parts(self) }.encode(w, 0)
    }

    fn get(r: &mut Reader) -> Result<Self, DecodeError> {
        Ok(whole(OutcomesBody::decode(r, 0)?.outcomes))
    }
}

impl Body for Adopted {
    fn put(&self, w: &mut Writer) -> Result<(), EncodeError> {
        let left =
            self.left.iter().map(|(name, why)| LeftBody { name: name.clone(), error_message: Some(Str::copy(why)) });
        AdoptedBody { topics: self.topics.clone(), left: left.collect() }.encode(w, 0)
    }

    fn get(r: &mut Reader) -> Result<Self, DecodeError> {
        let AdoptedBody { topics, left } = AdoptedBody::decode(r, 0)?;
        Ok(Self {
            topics,
            left: left.into_iter().map(|it| (it.name, it.error_message.unwrap_or_default().to_string())).collect(),
        })
    }
}

impl Body for Balanced {
    fn put(&self, w: &mut Writer) -> Result<(), EncodeError> {
        BalancedBody { moved: self.moved, left: self.left }.encode(w, 0)
    }

    fn get(r: &mut Reader) -> Result<Self, DecodeError> {
        let BalancedBody { moved, left } = BalancedBody::decode(r, 0)?;
        Ok(Self { moved, left })
    }
}
