//! Every method of the contract by its path, with what its `access` option says.

use coretex_contract::FILE_DESCRIPTOR_SET;
use prost_reflect::{DescriptorPool, MethodDescriptor};
use rustc_hash::FxHashMap;

/// One method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Method {
    /// Full name of the service, for example `coretex.v1.JobService`.
    pub(crate) service: String,
    pub(crate) name: String,
    pub(crate) permission: String,
    pub(crate) mutates: bool,
}

/// The methods that are counted and known; the last one stands for all others.
pub(crate) struct Methods {
    pub(crate) all: Vec<Method>,
    by_path: FxHashMap<String, usize>,
}

impl Methods {
    /// Reads the descriptors of the contract.
    pub(crate) fn of_contract() -> Methods {
        let pool =
            DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("invariant: a test decodes the committed set");
        let mut all = Vec::new();
        let mut by_path = FxHashMap::default();
        for service in pool.services().filter(|s| s.package_name().starts_with("coretex.")) {
            for method in service.methods() {
                by_path.insert(format!("/{}/{}", service.full_name(), method.name()), all.len());
                all.push(read(&pool, &method));
            }
        }
        all.push(Method {
            service: "other".into(),
            name: "other".into(),
            permission: String::new(),
            mutates: false,
        });
        Methods { all, by_path }
    }

    /// The number of the method with this path.
    pub(crate) fn find(&self, path: &str) -> usize {
        self.by_path.get(path).copied().unwrap_or(self.all.len() - 1)
    }

    pub(crate) fn services(&self) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.all.iter().map(|m| m.service.as_str()).filter(|s| *s != "other").collect();
        names.dedup();
        names
    }
}

fn read(pool: &DescriptorPool, method: &MethodDescriptor) -> Method {
    let options = method.options();
    let access =
        pool.get_extension_by_name("coretex.v1.access").map(|e| options.get_extension(&e).into_owned());
    let field =
        |name: &str| access.as_ref()?.as_message()?.get_field_by_name(name).map(std::borrow::Cow::into_owned);
    Method {
        service: method.parent_service().full_name().to_owned(),
        name: method.name().to_owned(),
        permission: field("permission").and_then(|p| p.as_str().map(str::to_owned)).unwrap_or_default(),
        mutates: field("mutates").and_then(|m| m.as_bool()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_states_its_access() {
        let methods = Methods::of_contract();
        let (other, known) = methods.all.split_last().expect("at least one");
        assert_eq!(other.service, "other");
        assert!(known.len() >= 31, "{}", known.len());
        for method in known {
            assert!(method.permission.contains('.'), "{} states no permission", method.name);
        }
        let at = |path: &str| &methods.all[methods.find(path)];
        assert!(at("/coretex.v1.JobService/SubmitJob").mutates);
        assert!(!at("/coretex.v1.JobService/GetJob").mutates);
        assert_eq!(at("/coretex.v1.JobService/Nope").service, "other");
        assert_eq!(methods.services().len(), 6);
    }
}
