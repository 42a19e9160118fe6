//! Verdicts, decisions, the built-in policy, and the place of rules of one's own.

mod constraints;
mod terms;

pub use constraints::{Amount, Budgets, Constraints, DiffLimits, Line, Redaction, Sandbox, Toolchain, Value};
pub use terms::{ApprovalTerms, OnExpiry, Terms, Throttle};

use crate::job::Spec;
use crate::time::{Span, Time};
use std::sync::Arc;

/// What a policy answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    Allow,
    Deny,
    RequireApproval,
    Throttle,
    AllowWithConstraints,
}

/// One answer of a policy, shared by all jobs it was given to. Its id is derived from the job and its revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub verdict: Verdict,
    pub rule_id: Arc<str>,
    pub reason: Arc<str>,
    pub remediations: Vec<Remediation>,
    pub policy: Arc<str>,
    pub policy_version: u64,
    /// Absent for a plain allow or deny, so that nothing is paid for it.
    pub terms: Option<Arc<Terms>>,
}

/// What a caller could do instead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remediation {
    pub id: Arc<str>,
    pub title: Arc<str>,
    pub summary: Option<Arc<str>>,
    pub replacement_topic: Option<Arc<str>>,
    pub replacement_capability: Option<Arc<str>>,
    pub add_labels: Vec<(Arc<str>, Arc<str>)>,
    pub remove_labels: Vec<Arc<str>>,
}

/// What a policy may look at.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub namespace: &'a str,
    /// The authenticated submitter, where somebody was asked to log in.
    pub submitter: Option<&'a str>,
    pub spec: &'a Spec,
    /// The effective configuration of the job, a map; none without one, null when it is lost.
    pub config: Option<&'a serde_json::Value>,
}

// === impl Verdict ===

impl Verdict {
    pub const ALL: [Verdict; 5] = [
        Verdict::Allow,
        Verdict::Deny,
        Verdict::RequireApproval,
        Verdict::Throttle,
        Verdict::AllowWithConstraints,
    ];

    /// The word of it in a bundle.
    pub const fn word(self) -> &'static str {
        match self {
            Verdict::Allow => "allow",
            Verdict::Deny => "deny",
            Verdict::RequireApproval => "require_approval",
            Verdict::Throttle => "throttle",
            Verdict::AllowWithConstraints => "allow_with_constraints",
        }
    }

    pub fn parse(word: &str) -> Option<Verdict> {
        Verdict::ALL.into_iter().find(|verdict| verdict.word() == word)
    }
}

// === impl Decision ===

impl Decision {
    pub fn approval(&self) -> Option<&ApprovalTerms> {
        self.terms.as_ref()?.approval.as_ref()
    }

    pub fn throttle(&self) -> Option<&Throttle> {
        self.terms.as_ref()?.throttle.as_ref()
    }

    pub fn constraints(&self) -> Option<&Constraints> {
        self.terms.as_ref()?.constraints.as_ref()
    }

    /// True if it was made for jobs with one key among many: hardly ever equal to another one.
    pub fn is_keyed(&self) -> bool {
        self.throttle().is_some_and(|throttle| !throttle.key.is_empty())
    }
}

// === impl Facts ===

impl<'a> Facts<'a> {
    /// Who acts: whoever logged in. What the request says of itself counts only where nobody was asked to.
    pub fn actor(&self) -> &'a str {
        let claimed = || self.spec.options().metadata.actor_id.as_deref();
        self.submitter.or_else(claimed).unwrap_or_default()
    }
}

/// Rules of one's own. They always answer, and always the same for the same facts.
pub trait Rules: std::fmt::Debug + Send + Sync {
    fn judge(&self, facts: Facts<'_>) -> Arc<Decision>;
}

/// A policy's answer to a question, or that it could not answer (an outage is never a verdict).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Decided(Arc<Decision>),
    /// Ask again at `until`; the job stays PENDING and says why.
    Deferred {
        until: Time,
        reason: Arc<str>,
    },
    /// A kernel elsewhere is asked; what it says comes later.
    Asked,
}

/// An immutable policy snapshot, judged by a pure call in the same decision as the submit.
#[derive(Clone, Debug)]
pub struct Policy {
    pub version: u64,
    allow: Arc<Decision>,
    deny_destroy: Arc<Decision>,
    outage: Option<(Span, Arc<str>)>,
    rules: Option<Arc<dyn Rules>>,
    is_remote: bool,
}

impl Policy {
    /// The policy `default`: denies `sys.destroy` and `sys.destroy.*`, allows the rest.
    pub fn built_in() -> Policy {
        Policy::built_in_at(1)
    }

    /// The same rules under a later version number.
    pub fn built_in_at(version: u64) -> Policy {
        let decision = |verdict, rule: &str, reason: &str, remediations| {
            Arc::new(Decision {
                verdict,
                rule_id: rule.into(),
                reason: reason.into(),
                remediations,
                policy: "default".into(),
                policy_version: version,
                terms: None,
            })
        };
        let archive = Remediation {
            id: "archive".into(),
            title: "Archive instead of destroying".into(),
            replacement_topic: Some("job.archive".into()),
            ..Remediation::default()
        };
        Policy {
            version,
            allow: decision(Verdict::Allow, "default", "allowed unless a rule says otherwise", vec![]),
            deny_destroy: decision(
                Verdict::Deny,
                "no-destroy",
                "destructive system jobs are never run from the queue",
                vec![archive],
            ),
            outage: None,
            rules: None,
            is_remote: false,
        }
    }

    /// Rules of one's own in place of the built-in ones. `version` must change with them.
    pub fn of(version: u64, rules: Arc<dyn Rules>) -> Policy {
        Policy { rules: Some(rules), ..Policy::built_in_at(version) }
    }

    /// A policy that cannot answer: every question is deferred by `retry` with `reason`.
    pub fn unreachable(version: u64, retry: Span, reason: &str) -> Policy {
        Policy { outage: Some((retry, reason.into())), ..Policy::built_in_at(version) }
    }

    /// Policies kept by a kernel elsewhere, which judges by this version of them.
    pub fn remote(version: u64) -> Policy {
        Policy { is_remote: true, ..Policy::built_in_at(version) }
    }

    pub fn is_remote(&self) -> bool {
        self.is_remote
    }

    pub fn judge(&self, facts: Facts<'_>, now: Time) -> Answer {
        if self.is_remote {
            return Answer::Asked;
        }
        if let Some((retry, reason)) = &self.outage {
            return Answer::Deferred { until: now + *retry, reason: reason.clone() };
        }
        if let Some(rules) = &self.rules {
            return Answer::Decided(rules.judge(facts));
        }
        let rest = facts.spec.topic.strip_prefix("sys.destroy");
        let destroy = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        Answer::Decided(if destroy { self.deny_destroy.clone() } else { self.allow.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Payload;

    #[test]
    fn who_logged_in_cannot_pose_as_another() {
        let mut spec = Spec::new("job.echo", Payload::empty());
        spec.options_mut().metadata.actor_id = Some("root".into());
        let actor = |submitter| {
            Facts { namespace: "default", submitter, spec: &spec, config: None }.actor().to_owned()
        };
        assert_eq!((actor(Some("agent-7")), actor(None)), ("agent-7".to_owned(), "root".to_owned()));
    }

    #[test]
    fn only_destroy_topics_are_denied() {
        let policy = Policy::built_in();
        let verdict = |topic: &str| {
            let spec = Spec::new(topic, Payload::empty());
            match policy
                .judge(Facts { namespace: "default", submitter: None, spec: &spec, config: None }, Time(0))
            {
                Answer::Decided(d) => d.verdict,
                Answer::Deferred { .. } | Answer::Asked => panic!("the built-in policy always answers"),
            }
        };
        assert_eq!(verdict("sys.destroy"), Verdict::Deny);
        assert_eq!(verdict("sys.destroy.disk"), Verdict::Deny);
        assert_eq!(verdict("sys.destroyer"), Verdict::Allow);
        assert_eq!(verdict("job.echo"), Verdict::Allow);
    }
}
