//! What comes with a verdict: whose approval, which rate, which constraints. Most decisions have none of it.

use super::Constraints;
use crate::limits::APPROVAL_EXPIRES_DEFAULT;
use crate::time::Span;
use crate::topic::Rate;
use std::sync::Arc;

/// The terms of a decision. At least one of them is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Set if the verdict asks for an approval.
    pub approval: Option<ApprovalTerms>,
    /// Set if the verdict throttles.
    pub throttle: Option<Throttle>,
    /// Set if the verdict constrains.
    pub constraints: Option<Constraints>,
}

/// Who may approve, how many of them, and what silence means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalTerms {
    /// People or groups. Empty: whoever holds the right to approve.
    pub approvers: Vec<Arc<str>>,
    /// How many must approve, at least 1.
    pub quorum: u32,
    /// How long it is waited for.
    pub expires: Span,
    pub on_expiry: OnExpiry,
    pub requester_may_approve: bool,
}

impl Default for ApprovalTerms {
    fn default() -> ApprovalTerms {
        ApprovalTerms {
            approvers: Vec::new(),
            quorum: 1,
            expires: APPROVAL_EXPIRES_DEFAULT,
            on_expiry: OnExpiry::Reject,
            requester_may_approve: false,
        }
    }
}

/// What an approval becomes that nobody gave in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExpiry {
    Reject,
    Approve,
}

impl OnExpiry {
    /// The word of it in a bundle.
    pub const fn word(self) -> &'static str {
        match self {
            OnExpiry::Reject => "reject",
            OnExpiry::Approve => "approve",
        }
    }
}

/// At most `limit` jobs are admitted per span, counted for each namespace, rule and key by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Throttle {
    pub limit: u32,
    pub per: Span,
    /// What the key of the rule came to for this job. Empty: one count for all jobs of the rule.
    pub key: Arc<str>,
}

impl Throttle {
    pub fn rate(&self) -> Rate {
        Rate { limit: self.limit, per: self.per }
    }
}
