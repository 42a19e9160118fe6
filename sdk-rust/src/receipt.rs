//! What handlers asked the server while they ran, and what they were told.

use crate::constraints::Constraints;
use crate::names::Verdict;
use crate::payload::json_of_struct;
use crate::raw::pb;
use crate::time::of_stamp;
use std::time::SystemTime;

/// One question of a handler and its answer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AskReceipt {
    /// Its id: job, number of the lease, number of the question.
    pub receipt_id: String,
    /// Number of the lease under which it was asked.
    pub lease_serial: u32,
    /// The worker's number for the question.
    pub ask_id: u64,
    /// When it was answered.
    pub create_time: Option<SystemTime>,
    /// What was told.
    pub told: AskTold,
}

/// What a handler was told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AskTold {
    /// Whether something may be done.
    Policy(Box<ActionReceipt>),
    /// Whether so much may be spent.
    Budget(BudgetReceipt),
    /// Names of the secrets that were told; their values are in no record.
    Secrets(Vec<String>),
    /// Which jobs were made.
    Spawned {
        /// Their name among what the job spawned.
        name: String,
        /// Their ids.
        job_ids: Vec<String>,
    },
    /// Something a later version knows.
    Unknown,
}

/// What policy said about an action.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ActionReceipt {
    /// The action.
    pub action: String,
    /// What it was to be done to.
    pub resource: String,
    /// Names its arguments, which are not kept.
    pub args_digest: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Policy that answered.
    pub policy: String,
    /// The policies in force when it was asked.
    pub policy_version: String,
    /// The rule.
    pub rule_id: String,
    /// Its reason.
    pub reason: String,
    /// What had to be observed.
    pub constraints: Constraints,
}

/// What was set aside of a budget.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BudgetReceipt {
    /// Which limit: `tokens_total` or `cost_micros`.
    pub dimension: String,
    /// What was asked for.
    pub asked: u64,
    /// All of it, or 0.
    pub granted: u64,
    /// What was left. `None`: nothing limited it.
    pub remaining: Option<u64>,
    /// Model it was for.
    pub model: String,
}

// === impl AskReceipt ===

impl AskReceipt {
    pub(crate) fn from_pb(receipt: pb::AskReceipt) -> Self {
        use pb::ask_receipt::Told;
        let told = match receipt.told {
            Some(Told::Policy(told)) => AskTold::Policy(Box::new(ActionReceipt {
                action: told.action,
                resource: told.resource,
                args_digest: told.args_digest,
                verdict: Verdict::of(told.verdict),
                policy: told.policy,
                policy_version: told.policy_version,
                rule_id: told.rule_id,
                reason: told.reason,
                constraints: told.constraints.map(json_of_struct).map(Constraints::of).unwrap_or_default(),
            })),
            Some(Told::Budget(told)) => AskTold::Budget(BudgetReceipt {
                dimension: told.dimension,
                asked: told.asked,
                granted: told.granted,
                remaining: told.remaining,
                model: told.model,
            }),
            Some(Told::Spawned(told)) => AskTold::Spawned { name: told.name, job_ids: told.job_ids },
            Some(Told::Secrets(told)) => AskTold::Secrets(told.names),
            None => AskTold::Unknown,
        };
        Self {
            receipt_id: receipt.receipt_id,
            lease_serial: receipt.lease_serial,
            ask_id: receipt.ask_id,
            create_time: of_stamp(receipt.create_time),
            told,
        }
    }
}
