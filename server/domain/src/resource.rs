//! Named things kept beside jobs: policies, configuration, namespaces, keys, approvals, audit records.
//!
//! The store knows their head and files them by it; what a kind holds is the concern of those who use it.

use crate::id::{Namespace, ShardId};
use crate::time::Time;
use bytes::Bytes;
use std::sync::Arc;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $number:literal $name:literal,)*) => {
        /// What a resource is. Numbers are stored; they are never used again for something else.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Kind { $($(#[$doc])* $kind = $number,)* }
        impl Kind {
            pub const ALL: &[Kind] = &[$(Kind::$kind,)*];
            pub const fn name(self) -> &'static str { match self { $(Kind::$kind => $name,)* } }
            pub fn from_number(number: u32) -> Option<Kind> {
                Kind::ALL.iter().copied().find(|kind| *kind as u32 == number)
            }
        }
    };
}

kinds! {
    /// Which version of a policy is in force, and which one is judged beside it.
    Policy = 1 "policy",
    /// One version of a policy, for ever as it was applied.
    PolicyVersion = 2 "policy version",
    /// The configuration of one scope, as it is now.
    Config = 3 "config",
    /// An earlier or the present state of a scope's configuration.
    ConfigRevision = 4 "config revision",
    /// A tenant with its quotas and defaults.
    Namespace = 5 "namespace",
    /// A key that identifies a caller; never the secret part itself.
    ApiKey = 6 "API key",
    /// A question to people, and their answers.
    Approval = 7 "approval",
    /// What somebody did, or was refused.
    Audit = 8 "audit record",
    /// Where the chain of audit records ends.
    AuditHead = 9 "audit head",
    /// The answer to a question a worker asked in the middle of a job.
    Receipt = 10 "receipt",
    /// A value handed out by reference only.
    Secret = 11 "secret",
    /// A call that changed something, so that its repeat is known.
    Call = 12 "call",
    /// Which version of a workflow new runs get.
    Workflow = 13 "workflow",
    /// One version of a workflow, for ever as it was applied.
    WorkflowVersion = 14 "workflow version",
    /// A run of a workflow: how it stands, and the newest part of its history.
    Run = 15 "run",
    /// A part of a run that is kept apart: older history, a long input, the items of a step. It goes with its run.
    RunPart = 16 "part of a run",
    /// A signal to a run.
    Signal = 17 "signal",
    /// When something is started by itself.
    Schedule = 18 "schedule",
    /// What a schedule did at one of its times.
    ScheduleFire = 19 "schedule fire",
}

/// One named thing. Its key is (kind, namespace, name).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    pub kind: Kind,
    pub namespace: Namespace,
    pub name: Arc<str>,
    /// The shard whose loop writes it.
    pub shard: ShardId,
    /// Rises by one with each change.
    pub revision: u64,
    /// Handed to every owner at a claim, because decisions rest on it; the rest is looked up.
    pub is_live: bool,
    pub create_time: Time,
    pub update_time: Time,
    /// It is removed then.
    pub expire_time: Option<Time>,
    /// What the kind holds, as its users wrote it.
    pub body: Bytes,
}

/// The key of a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceKey {
    pub kind: Kind,
    pub namespace: Namespace,
    pub name: Arc<str>,
}

// === impl Resource ===

impl Resource {
    pub fn key(&self) -> ResourceKey {
        ResourceKey { kind: self.kind, namespace: self.namespace.clone(), name: self.name.clone() }
    }

    /// About how many bytes it holds.
    pub fn weight(&self) -> usize {
        size_of::<Resource>() + self.name.len() + self.body.len()
    }
}

// === impl ResourceKey ===

impl ResourceKey {
    pub fn new(kind: Kind, namespace: Namespace, name: impl Into<Arc<str>>) -> ResourceKey {
        ResourceKey { kind, namespace, name: name.into() }
    }
}

// === impl Kind ===

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
