//! Who may do what: seven roles, and one table that says which of them hold each permission.
//!
//! A permission is `resource.verb`, as the `access` option of a method names it. What is not in the table nobody may do.

use crate::nearest::hint;
use std::fmt::Write as _;

/// What an identity is for. An identity may have several; it may do what any of them may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Reads jobs, runs, settings and decisions; writes nothing.
    Viewer,
    /// Submits work, follows it and stops it.
    Submitter,
    /// Keeps work flowing: topics, dead letters, workers, schedules, approvals.
    Operator,
    /// Serves topics: connects, polls, reports.
    Worker,
    /// Writes policies and configuration, and no jobs.
    PolicyAdmin,
    /// Everything.
    Admin,
    /// Reads everything, the audit included; writes nothing.
    Auditor,
}

/// Some roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Roles(u8);

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Permission {
    /// `resource.verb`.
    pub name: &'static str,
    /// What it lets its holder do.
    pub about: &'static str,
    /// Who holds it.
    pub roles: Roles,
    /// Concerns the whole server: an identity bound to namespaces may not, whatever its role.
    pub is_server_wide: bool,
}

// === impl Role ===

impl Role {
    pub const ALL: [Role; 7] = [
        Role::Viewer,
        Role::Submitter,
        Role::Operator,
        Role::Worker,
        Role::PolicyAdmin,
        Role::Admin,
        Role::Auditor,
    ];

    /// Its name in settings.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Submitter => "submitter",
            Role::Operator => "operator",
            Role::Worker => "worker",
            Role::PolicyAdmin => "policy-admin",
            Role::Admin => "admin",
            Role::Auditor => "auditor",
        }
    }

    /// The role with this name, or what is wrong with the name.
    pub fn parse(name: &str) -> Result<Role, String> {
        Role::ALL.into_iter().find(|role| role.name() == name).ok_or_else(|| {
            let hint = hint(name, Role::ALL.into_iter().map(Role::name));
            format!("there is no role `{}`{hint}", name.escape_debug())
        })
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

// === impl Roles ===

impl Roles {
    pub const NONE: Roles = Roles(0);
    pub const ADMIN: Roles = Roles::of(&[Role::Admin]);

    pub const fn of(roles: &[Role]) -> Roles {
        let (mut bits, mut rest) = (0, roles);
        while let [first, others @ ..] = rest {
            bits |= first.bit();
            rest = others;
        }
        Roles(bits)
    }

    #[must_use]
    pub const fn with(self, role: Role) -> Roles {
        Roles(self.0 | role.bit())
    }

    pub const fn has(self, role: Role) -> bool {
        self.0 & role.bit() != 0
    }

    /// Whether any of these is among the others.
    pub const fn meets(self, others: Roles) -> bool {
        self.0 & others.0 != 0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether these may do everything that another role may.
    pub fn cover(self, other: Role) -> bool {
        PERMISSIONS.iter().all(|permission| !permission.roles.has(other) || permission.roles.meets(self))
    }

    /// Each of them, in the order of [`Role::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.has(*role))
    }

    /// Their names, for people: `operator, admin`.
    pub fn names(self) -> String {
        self.iter().map(Role::name).collect::<Vec<_>>().join(", ")
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Roles {
        roles.into_iter().fold(Roles::NONE, Roles::with)
    }
}

// === the table ===

use Role::{Admin, Auditor, Operator, PolicyAdmin, Submitter, Viewer, Worker};

/// Those who look at work. Workers see what they are handed, and no more.
const READERS: Roles = Roles::of(&[Viewer, Submitter, Operator, PolicyAdmin, Auditor, Admin]);
const SUBMITTERS: Roles = Roles::of(&[Submitter, Operator, Admin]);
const OPERATORS: Roles = Roles::of(&[Operator, Admin]);
const POLICY_WRITERS: Roles = Roles::of(&[PolicyAdmin, Admin]);
const WATCHMEN: Roles = Roles::of(&[Operator, Auditor, Admin]);
const KEEPERS: Roles = Roles::of(&[Auditor, Admin]);
const EVERYBODY: Roles = Roles::of(&[Viewer, Submitter, Operator, Worker, PolicyAdmin, Auditor, Admin]);

macro_rules! permissions {
    ($($name:literal $roles:expr, $about:literal $($wide:ident)?;)+) => {
        &[$(Permission {
            name: $name,
            about: $about,
            roles: $roles,
            is_server_wide: permissions!(@wide $($wide)?),
        },)+]
    };
    (@wide server) => { true };
    (@wide) => { false };
}

/// Every permission there is. `server` marks those that concern the whole server.
pub const PERMISSIONS: &[Permission] = permissions! {
    "jobs.read" READERS, "Read jobs, their history, output and causes, and watch them";
    "jobs.submit" SUBMITTERS, "Submit jobs, one, many or as a stream";
    "jobs.cancel" SUBMITTERS, "Cancel jobs";
    "jobs.retry" SUBMITTERS, "Run an ended job again";
    "runs.read" READERS, "Read workflow runs and watch them";
    "runs.start" SUBMITTERS, "Start workflow runs";
    "runs.write" SUBMITTERS, "Cancel, signal and rerun workflow runs";
    "workflows.read" READERS, "Read workflows and their versions";
    "workflows.write" OPERATORS, "Apply and delete workflows";
    "schedules.read" READERS, "Read schedules and what they did, and preview them";
    "schedules.write" OPERATORS, "Apply, pause, trigger, backfill and delete schedules";
    "approvals.read" READERS, "Read what waits for an approval";
    "approvals.decide" OPERATORS, "Approve and reject";
    "topics.read" READERS, "Read topics and their settings";
    "topics.update" OPERATORS, "Change limits, rates and retention of topics";
    "topics.pause" OPERATORS, "Pause and resume topics";
    "dlq.read" READERS, "Read and group dead letters";
    "dlq.retry" OPERATORS, "Retry dead letters";
    "dlq.delete" OPERATORS, "Delete and purge dead letters";
    "events.read" READERS, "Watch events";
    "workers.connect" Roles::of(&[Worker, Admin]), "Serve topics: connect or poll, and report";
    "workers.read" READERS, "Read workers and their load";
    "workers.drain" OPERATORS, "Drain workers";
    "config.read" READERS, "Read configuration, its sources and history";
    "config.write" POLICY_WRITERS, "Set, roll back and delete configuration";
    "policy.read" READERS, "Read policies and their versions";
    "policy.check" READERS, "Ask what a policy would decide";
    "policy.write" POLICY_WRITERS, "Apply and roll back policies" server;
    "decisions.read" READERS, "Read recorded decisions";
    "namespaces.read" READERS, "Read namespaces and their quotas";
    "namespaces.write" Roles::ADMIN, "Make, change and delete namespaces" server;
    "keys.read" KEEPERS, "Read whose API keys there are, never the keys";
    "keys.write" Roles::ADMIN, "Make, rotate and revoke API keys";
    "audit.read" KEEPERS, "Read and export the audit";
    "secrets.read" KEEPERS, "Read which secrets there are, never their content";
    "secrets.write" Roles::ADMIN, "Set and delete secrets";
    "admin.info" EVERYBODY, "Read version, limits and guarantees of the server";
    "admin.shards" WATCHMEN, "Read the state of the shards" server;
    "admin.drain" OPERATORS, "Drain a node" server;
    "admin.backup" Roles::ADMIN, "Copy the store of all namespaces into a directory of the server" server;
};

/// The line of the table with this name.
pub fn find(permission: &str) -> Option<&'static Permission> {
    PERMISSIONS.iter().find(|known| known.name == permission)
}

/// The table as a page of documentation.
pub fn to_markdown() -> String {
    let mut out = String::from(
        "# Roles\n\nWhat each role may do. An identity with several roles may do what any of them may; what is in no line nobody may do.\n\n",
    );
    out.push_str("| permission | lets its holder |");
    for role in Role::ALL {
        let _ = write!(out, " {} |", role.name());
    }
    out.push_str("\n|---|---|");
    out.push_str(&":-:|".repeat(Role::ALL.len()));
    out.push('\n');
    for permission in PERMISSIONS {
        let mark = if permission.is_server_wide { " ¹" } else { "" };
        let _ = write!(out, "| `{}`{mark} | {} |", permission.name, permission.about);
        for role in Role::ALL {
            out.push_str(if permission.roles.has(role) { " ✓ |" } else { " |" });
        }
        out.push('\n');
    }
    out.push_str(
        "\n¹ Concerns the whole server: an identity bound to namespaces may not, whatever its role.\n\n[Who may do what](../guide/access.md) tells how identities get roles.\n\n<!-- Generated from `coretex_domain::access`; do not edit. -->\n",
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writes(name: &str) -> bool {
        !matches!(name.rsplit('.').next(), Some("read" | "info" | "shards" | "check"))
    }

    fn held_by(role: Role) -> Vec<&'static str> {
        PERMISSIONS.iter().filter(|p| p.roles.has(role)).map(|p| p.name).collect()
    }

    #[test]
    fn names_are_unique_and_well_made() {
        for (index, permission) in PERMISSIONS.iter().enumerate() {
            let (resource, verb) = permission.name.split_once('.').expect("resource.verb");
            assert!(!resource.is_empty() && !verb.is_empty() && !verb.contains('.'), "{}", permission.name);
            assert!(PERMISSIONS.iter().skip(index + 1).all(|other| other.name != permission.name));
            assert!(!permission.roles.is_empty(), "nobody may {}", permission.name);
        }
    }

    #[test]
    fn duties_are_apart() {
        assert_eq!(held_by(Role::Admin).len(), PERMISSIONS.len(), "admin may everything");
        for role in [Role::Viewer, Role::Auditor] {
            assert!(held_by(role).into_iter().all(|name| !writes(name)), "{} writes nothing", role.name());
        }
        let read = PERMISSIONS.iter().filter(|p| !writes(p.name));
        assert!(read.into_iter().all(|p| p.roles.has(Role::Auditor)), "the auditor reads everything");
        let written: Vec<_> = held_by(Role::PolicyAdmin).into_iter().filter(|name| writes(name)).collect();
        assert_eq!(written, ["config.write", "policy.write"]);
        assert_eq!(held_by(Role::Worker), ["workers.connect", "admin.info"]);
        for name in ["audit.read", "keys.read", "secrets.read"] {
            let readers: Vec<_> = find(name).expect(name).roles.iter().collect();
            assert_eq!(readers, [Role::Admin, Role::Auditor], "{name}");
        }
    }

    #[test]
    fn roles_cover_those_that_may_no_more_than_they() {
        for role in Role::ALL {
            assert!(Roles::ADMIN.cover(role) && Roles::of(&[role]).cover(role), "{}", role.name());
            assert!(!Roles::NONE.cover(role));
        }
        let operator = Roles::of(&[Role::Operator]);
        assert!(operator.cover(Role::Viewer) && operator.cover(Role::Submitter));
        for beyond in [Role::Admin, Role::Worker, Role::PolicyAdmin, Role::Auditor] {
            assert!(!operator.cover(beyond), "{}", beyond.name());
        }
        assert!(operator.with(Role::PolicyAdmin).cover(Role::PolicyAdmin));
    }

    #[test]
    fn names_of_roles_are_read_and_typos_hinted() {
        for role in Role::ALL {
            assert_eq!(Role::parse(role.name()), Ok(role));
        }
        assert!(Role::parse("admim").is_err_and(|e| e.contains("`admin`")));
        assert!(Role::parse("").is_err());
        assert_eq!(find("jobs.everything").map(|p| p.name), None);
        assert_eq!(Roles::of(&[Role::Viewer, Role::Admin]).names(), "viewer, admin");
    }
}
