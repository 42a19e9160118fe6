//! The names an expression may read: a table that is fixed when the program is built.

use crate::kind::Kinds;

/// The language as one reader speaks it.
#[derive(Debug)]
pub struct Scope {
    /// In the order messages list them.
    pub roots: &'static [Root],
    /// Whether a field or an item of null is null. Otherwise there is none, which is a fault.
    pub null_selects: bool,
}

/// A name an expression may begin with.
#[derive(Debug)]
pub struct Root {
    pub name: &'static str,
    pub reads: Reads,
}

/// What a root stands for.
#[derive(Debug)]
pub enum Reads {
    /// A value, which [`Inputs::read`](crate::Inputs::read) is asked for by this number.
    Value { number: u16, kinds: Kinds },
    /// Nothing by itself: only these fields can be read. They are always there.
    Fields(&'static [Field]),
}

/// A field of a root that is read only by its fields.
#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub number: u16,
    /// The kinds its value may have.
    pub kinds: Kinds,
}

/// A name that was found in a scope.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    pub(crate) number: u16,
    pub(crate) root: &'static Root,
    pub(crate) field: Option<&'static Field>,
}

// === impl Scope ===

impl Scope {
    pub(crate) fn root(&self, name: &str) -> Option<&'static Root> {
        self.roots.iter().find(|root| root.name == name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.roots.iter().map(|root| root.name)
    }
}

// === impl Root ===

impl Root {
    /// A root that is a value.
    pub const fn value(name: &'static str, number: u16, kinds: Kinds) -> Root {
        Root { name, reads: Reads::Value { number, kinds } }
    }

    /// A root that is read only by its fields.
    pub const fn fields(name: &'static str, fields: &'static [Field]) -> Root {
        Root { name, reads: Reads::Fields(fields) }
    }
}

// === impl Field ===

impl Field {
    pub const fn new(name: &'static str, number: u16, kinds: Kinds) -> Field {
        Field { name, number, kinds }
    }
}

// === impl Source ===

impl Source {
    pub(crate) fn kinds(&self) -> Kinds {
        match (self.field, &self.root.reads) {
            (Some(field), _) => field.kinds,
            (None, Reads::Value { kinds, .. }) => *kinds,
            (None, Reads::Fields(_)) => Kinds::ANY,
        }
    }
}
