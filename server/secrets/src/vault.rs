//! The values a server has, by namespace and name.

use crate::secret::{Secret, check_name};
use coretex_domain::names::check_namespace;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// In the place of a namespace: every one.
pub const ANY_NAMESPACE: &str = "*";
/// Values one server keeps.
const VALUES_MAX: usize = 1_000;

/// A set of values, checked.
#[derive(Clone, Default)]
pub struct Values {
    by_namespace: BTreeMap<String, BTreeMap<String, Secret>>,
}

/// The values of a server, which may be replaced while it runs.
#[derive(Default)]
pub struct Vault {
    is_used: AtomicBool,
    values: RwLock<Arc<Values>>,
}

// === impl Values ===

impl Values {
    /// Adds a value. What is wrong with it is said without the value.
    pub fn add(&mut self, namespace: &str, name: &str, value: String) -> Result<(), String> {
        let value = Secret::new(value).map_err(|why| format!("{namespace}/{name} {why}"))?;
        if namespace != ANY_NAMESPACE {
            check_namespace(namespace)
                .map_err(|why| format!("a namespace {why}, or be `{ANY_NAMESPACE}`"))?;
        }
        check_name(name).map_err(|why| format!("a name in {namespace} {why}"))?;
        if self.len() >= VALUES_MAX {
            return Err(format!("there are more than {VALUES_MAX} values"));
        }
        let names = self.by_namespace.entry(namespace.to_owned()).or_default();
        match names.insert(name.to_owned(), value) {
            None => Ok(()),
            Some(_) => Err(format!("{namespace}/{name} is given twice")),
        }
    }

    /// Takes in others; where a name is in both, theirs counts.
    pub fn join(&mut self, others: &Values) {
        for (namespace, names) in &others.by_namespace {
            let own = self.by_namespace.entry(namespace.clone()).or_default();
            own.extend(names.iter().map(|(name, value)| (name.clone(), value.clone())));
        }
    }

    /// The value a namespace has under a name: its own, else the one of every namespace.
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Secret> {
        let of = |namespace| self.by_namespace.get(namespace).and_then(|names| names.get(name));
        of(namespace).or_else(|| of(ANY_NAMESPACE))
    }

    /// True if any namespace has a value under this name.
    pub fn has_somewhere(&self, name: &str) -> bool {
        self.by_namespace.values().any(|names| names.contains_key(name))
    }

    pub fn all(&self) -> impl Iterator<Item = &Secret> {
        self.by_namespace.values().flat_map(BTreeMap::values)
    }

    pub fn len(&self) -> usize {
        self.by_namespace.values().map(BTreeMap::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} secrets", self.len())
    }
}

// === impl Vault ===

impl Vault {
    /// Puts values in the place of those before, once the redactor knows them.
    pub fn replace(&self, values: Values) -> Result<(), String> {
        crate::register(values.all())?;
        self.is_used.store(!values.is_empty(), Ordering::Release);
        *self.values.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(values);
        Ok(())
    }

    /// True if there is anything to ask for.
    pub fn is_used(&self) -> bool {
        self.is_used.load(Ordering::Relaxed)
    }

    /// The values as they are now.
    pub fn values(&self) -> Arc<Values> {
        self.values.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_sees_its_own_values_and_those_of_all() {
        let mut values = Values::default();
        for (namespace, name, value) in [("a", "X", "of-a"), ("b", "Y", "of-b"), ("*", "X", "of-all")] {
            values.add(namespace, name, value.into()).unwrap();
        }
        let get = |namespace, name| values.get(namespace, name).map(Secret::expose);
        assert_eq!(get("a", "X"), Some("of-a"));
        assert_eq!(get("b", "X"), Some("of-all"));
        assert_eq!(get("a", "Y"), None);
        assert_eq!(get("*", "X"), Some("of-all"));
        assert!(values.has_somewhere("Y") && !values.has_somewhere("Z"));
        assert!(values.clone().add("a", "X", "again".into()).is_err_and(|why| !why.contains("again")));
        assert!(values.clone().add("A", "X", "v".into()).is_err());
        assert!(values.clone().add("a", "X Y", "v".into()).is_err());
        let mut other = Values::default();
        other.add("a", "X", "other".into()).unwrap();
        values.join(&other);
        assert_eq!(values.get("a", "X").map(Secret::expose), Some("other"));
        assert_eq!(format!("{values:?}"), "3 secrets");
    }
}
