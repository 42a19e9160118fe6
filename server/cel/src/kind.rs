//! Kinds of values, and sets of them: what is known of a value before there is one.

use std::fmt;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Null,
    Bool,
    /// A whole number of 64 bits.
    Int,
    Double,
    Text,
    List,
    Map,
}

/// The kinds a value may have: all of them where nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds(u8);

// === impl Kind ===

impl Kind {
    pub(crate) const ALL: [Kind; 7] =
        [Kind::Null, Kind::Bool, Kind::Int, Kind::Double, Kind::Text, Kind::List, Kind::Map];

    /// In words, for a message.
    pub const fn told(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Bool => "true or false",
            Kind::Int => "a whole number",
            Kind::Double => "a number with a fraction",
            Kind::Text => "a text",
            Kind::List => "a list",
            Kind::Map => "a map",
        }
    }
}

// === impl Kinds ===

impl Kinds {
    /// No value at all.
    pub const NONE: Kinds = Kinds(0);
    pub const NULL: Kinds = Kinds::of(Kind::Null);
    pub const BOOL: Kinds = Kinds::of(Kind::Bool);
    pub const INT: Kinds = Kinds::of(Kind::Int);
    pub const DOUBLE: Kinds = Kinds::of(Kind::Double);
    /// A number, whole or not.
    pub const NUMBER: Kinds = Kinds::INT.or(Kinds::DOUBLE);
    pub const TEXT: Kinds = Kinds::of(Kind::Text);
    pub const LIST: Kinds = Kinds::of(Kind::List);
    pub const MAP: Kinds = Kinds::of(Kind::Map);
    /// Nothing is known.
    pub const ANY: Kinds = Kinds(0b111_1111);

    /// Just this kind.
    pub const fn of(kind: Kind) -> Kinds {
        Kinds(1 << kind as u8)
    }

    /// What is in one or the other.
    pub const fn or(self, other: Kinds) -> Kinds {
        Kinds(self.0 | other.0)
    }

    /// What is in both.
    pub const fn and(self, other: Kinds) -> Kinds {
        Kinds(self.0 & other.0)
    }

    /// True if a value may be of this kind.
    pub const fn has(self, kind: Kind) -> bool {
        !self.and(Kinds::of(kind)).is_none()
    }

    /// True if one may be of a kind of the other.
    pub const fn meets(self, other: Kinds) -> bool {
        !self.and(other).is_none()
    }

    /// True if there can be no value.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// The kind, if it is known.
    pub fn one(self) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| self == Kinds::of(*kind))
    }

    /// The kind in words, if it is known, or that it is a number.
    pub fn told(self) -> Option<&'static str> {
        if self == Kinds::NUMBER { Some("a number") } else { self.one().map(Kind::told) }
    }
}

impl From<Kind> for Kinds {
    fn from(kind: Kind) -> Kinds {
        Kinds::of(kind)
    }
}

/// A kind that is not known is any.
impl From<Option<Kind>> for Kinds {
    fn from(kind: Option<Kind>) -> Kinds {
        kind.map_or(Kinds::ANY, Kinds::of)
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(told) = self.told() {
            return f.write_str(told);
        }
        let is_number = |kind: &Kind| Kinds::NUMBER.has(*kind);
        let has_both = self.and(Kinds::NUMBER) == Kinds::NUMBER;
        let kinds = Kind::ALL.into_iter().filter(|kind| self.has(*kind));
        let mut told: Vec<_> =
            kinds.map(|kind| if has_both && is_number(&kind) { "a number" } else { kind.told() }).collect();
        told.dedup();
        match told.split_last() {
            None => f.write_str("nothing"),
            Some((last, first)) => write!(f, "{} or {last}", first.join(", ")),
        }
    }
}
