//! Every method of the contract by its path, with what its `access` option says.

use crate::access::principal::Principal;
use coretex_contract::FILE_DESCRIPTOR_SET;
use coretex_domain::access::{self, Roles};
use coretex_domain::{Reason, Refusal};
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
    pub(crate) audit: Audit,
    /// Whether messages of either side may go on for ever.
    pub(crate) streams: bool,
    /// Who may call it. A permission that is in no table nobody has.
    pub(crate) roles: Roles,
    /// Only for identities that are not bound to namespaces.
    pub(crate) is_server_wide: bool,
}

/// What a call of a method leaves to tell who made it. Refusals for lack of a credential or permission leave a record in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audit {
    Never,
    /// An audit record, whether it is done or refused.
    Record,
    /// The history of the jobs it makes or moves; a record only when it is refused.
    History,
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
            audit: Audit::Never,
            streams: false,
            roles: Roles::NONE,
            is_server_wide: false,
        });
        Methods { all, by_path }
    }

    /// The method with this number, unless it stands for all others.
    pub(crate) fn known(&self, number: usize) -> Option<&Method> {
        self.all.split_last()?.1.get(number)
    }

    /// The number of the method with this path, letter for letter.
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

impl Method {
    /// Whether somebody may call it. The refusal tells what is needed, and nothing about what was asked for.
    pub(crate) fn check(&self, principal: &Principal) -> Result<(), Refusal> {
        let permission = &self.permission;
        let message = match () {
            () if !principal.roles.meets(self.roles) => {
                format!("`{permission}` is needed; these roles have it: {}", self.roles.names())
            }
            () if self.is_server_wide && !principal.namespaces.is_empty() => {
                format!("`{permission}` concerns the whole server; this identity is bound to namespaces")
            }
            () => return Ok(()),
        };
        Err(Refusal::new(Reason::PermissionDenied, message)
            .fact("permission", permission.clone())
            .fact("roles", self.roles.names()))
    }
}

fn read(pool: &DescriptorPool, method: &MethodDescriptor) -> Method {
    let options = method.options();
    let rule =
        pool.get_extension_by_name("coretex.v1.access").map(|e| options.get_extension(&e).into_owned());
    let field =
        |name: &str| rule.as_ref()?.as_message()?.get_field_by_name(name).map(std::borrow::Cow::into_owned);
    let permission = field("permission").and_then(|p| p.as_str().map(str::to_owned)).unwrap_or_default();
    let flag = |name: &str| field(name).and_then(|value| value.as_bool()).unwrap_or_default();
    let known = access::find(&permission);
    Method {
        service: method.parent_service().full_name().to_owned(),
        name: method.name().to_owned(),
        streams: method.is_client_streaming() || method.is_server_streaming(),
        roles: known.map(|p| p.roles).unwrap_or_default(),
        is_server_wide: known.is_some_and(|p| p.is_server_wide),
        permission,
        mutates: flag("mutates"),
        audit: match (flag("audited"), flag("audit_by_history")) {
            (false, _) => Audit::Never,
            (true, false) => Audit::Record,
            (true, true) => Audit::History,
        },
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
        assert_eq!(methods.services().len(), 15);
    }

    #[test]
    fn what_changes_something_tells_who_did_it() {
        let methods = Methods::of_contract();
        let (_, known) = methods.all.split_last().expect("at least one");
        for method in known {
            assert_eq!(method.mutates, method.audit != Audit::Never, "{}", method.name);
        }
        let by_history: Vec<&str> =
            known.iter().filter(|m| m.audit == Audit::History).map(|m| m.name.as_str()).collect();
        let expected = [
            "SubmitJob",
            "BatchSubmitJobs",
            "SubmitJobStream",
            "RunJob",
            "StartRun",
            "SignalRun",
            "Connect",
            "PollJobs",
            "ReportJobs",
        ];
        assert_eq!(by_history, expected);
    }

    /// Each method with its permission, whether it changes anything, and who may call it.
    fn by_roles() -> String {
        let methods = Methods::of_contract();
        let (_, known) = methods.all.split_last().expect("at least one");
        let line = |m: &Method| {
            let kind = if m.mutates { "writes" } else { "reads" };
            let service = m.service.trim_start_matches("coretex.v1.");
            format!("{service}/{} {} {kind}: {}\n", m.name, m.permission, m.roles.names())
        };
        known.iter().map(line).collect()
    }

    #[test]
    fn roles_by_method_are_as_agreed() {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/src/access/roles_by_method.txt");
        let made = by_roles();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(golden, &made).expect("written");
        }
        let agreed = std::fs::read_to_string(golden).expect("committed");
        let new: Vec<&str> = made.lines().filter(|line| !agreed.lines().any(|old| old == *line)).collect();
        let old: Vec<&str> = agreed.lines().filter(|line| !made.lines().any(|new| new == *line)).collect();
        let hint = "if this is meant, run `UPDATE_GOLDEN=1 cargo test -p coretex-gateway roles_by_method`";
        assert!(new.is_empty() && old.is_empty(), "new: {new:#?}\nold: {old:#?}\n{hint}");
    }

    #[test]
    fn no_method_is_without_a_rule_that_some_role_meets() {
        let methods = Methods::of_contract();
        let (_, known) = methods.all.split_last().expect("at least one");
        for method in known {
            let rule = access::find(&method.permission);
            let rule = rule.unwrap_or_else(|| panic!("{}: no role has {:?}", method.name, method.permission));
            assert_eq!((method.roles, method.is_server_wide), (rule.roles, rule.is_server_wide));
        }
    }

    #[test]
    fn what_no_role_has_nobody_may() {
        let method = Method {
            service: "s".into(),
            name: "m".into(),
            permission: "made.up".into(),
            mutates: false,
            audit: Audit::Never,
            streams: false,
            roles: access::find("made.up").map(|p| p.roles).unwrap_or_default(),
            is_server_wide: false,
        };
        assert!(method.check(&Principal::anonymous(Roles::ADMIN)).is_err(), "not even an admin");
    }
}
