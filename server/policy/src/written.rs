//! Terms of the domain as a bundle writes them.

use coretex_domain::policy::{Amount, ApprovalTerms, Constraints, Line, Value};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// An approval, defaults written out.
pub(crate) struct ApprovalText<'a>(pub(crate) &'a ApprovalTerms);

/// Constraints, group by group, only what is set.
pub(crate) struct ConstraintsText<'a>(pub(crate) &'a Constraints);

struct Group<'a>(&'a [Line<'a>]);

struct Written<'a>(Value<'a>);

impl Serialize for ApprovalText<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ApprovalTerms { approvers, quorum, expires, on_expiry, requester_may_approve } = self.0;
        let mut map = serializer.serialize_map(Some(5))?;
        map.serialize_entry("approvers", approvers)?;
        map.serialize_entry("quorum", quorum)?;
        map.serialize_entry("expires", &expires.to_string())?;
        map.serialize_entry("on_expiry", on_expiry.word())?;
        map.serialize_entry("requester_may_approve", requester_may_approve)?;
        map.end()
    }
}

impl Serialize for ConstraintsText<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let lines = self.0.lines();
        let mut map = serializer.serialize_map(None)?;
        for group in lines.chunk_by(|one, other| one.0 == other.0) {
            match group {
                [("", name, value)] => map.serialize_entry(name, &Written(*value))?,
                [(name, ..), ..] => map.serialize_entry(name, &Group(group))?,
                [] => {}
            }
        }
        map.end()
    }
}

impl Serialize for Group<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(_, name, value)| (name, Written(*value))))
    }
}

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Span(span) => serializer.collect_str(&span),
            Value::Count(count) => serializer.serialize_u64(count),
            Value::Micros(micros) => serializer.collect_str(&Amount(micros)),
            Value::Flag(flag) => serializer.serialize_bool(flag),
            Value::Texts(texts) => serializer.collect_seq(texts),
            Value::Word(word) => serializer.serialize_str(word),
        }
    }
}
