//! What a worker was told in the middle of an attempt, kept so that the same question has the same answer.

use crate::id::{JobId, Namespace, ShardId};
use crate::job::Job;
use crate::policy::Verdict;
use crate::resource::{Kind, Resource, ResourceKey};
use crate::time::Time;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// One question and its answer, bound to one lease of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Receipt {
    /// Number of the lease under which it was asked.
    pub serial: u32,
    /// The worker's number for the question, unique under the lease.
    pub ask_id: u64,
    /// Hash of all that was asked: a repeat with another question is refused.
    pub asked: u128,
    pub told: Told,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    Ruling(Box<Ruling>),
    Grant(Grant),
    Spawned(Spawned),
    /// Names of secrets whose values were told. The values are never in a record.
    Secrets(Vec<Arc<str>>),
}

/// What the policies said about an action inside a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Ruling {
    pub action: Arc<str>,
    pub resource: Arc<str>,
    /// BLAKE3 of the arguments, or what the worker named them by.
    pub args_digest: Arc<str>,
    pub verdict: Verdict,
    pub policy: Arc<str>,
    pub policy_version: u64,
    pub rule_id: Arc<str>,
    pub reason: Arc<str>,
    /// As a bundle states them; empty without any.
    pub constraints: Map<String, Value>,
}

/// What was reserved of a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub dimension: Dimension,
    pub asked: u64,
    /// All that was asked for, or nothing.
    pub granted: u64,
    /// What is left to be asked for; none where nothing limits it.
    pub remaining: Option<u64>,
    /// For people.
    pub model: Arc<str>,
}

/// Jobs that were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spawned {
    /// Their name among what the job spawned.
    pub name: Arc<str>,
    /// In the order in which they were asked for.
    pub jobs: Vec<JobId>,
}

/// Which limit of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// Model tokens, read and written together.
    Tokens,
    /// Cost in millionths of the currency.
    CostMicros,
}

// === impl Dimension ===

impl Dimension {
    pub const ALL: [Dimension; 2] = [Dimension::Tokens, Dimension::CostMicros];

    /// The limit's name in the contract, without `max_`.
    pub const fn name(self) -> &'static str {
        match self {
            Dimension::Tokens => "tokens_total",
            Dimension::CostMicros => "cost_micros",
        }
    }

    fn parse(name: &str) -> Option<Dimension> {
        Dimension::ALL.into_iter().find(|one| one.name() == name)
    }
}

// === impl Receipt ===

impl Receipt {
    /// The id of a receipt: also that of the decision in it.
    pub fn name(job: &JobId, serial: u32, ask_id: u64) -> Arc<str> {
        format!("{job}/{serial}/{ask_id}").into()
    }

    pub fn key(namespace: &Namespace, job: &JobId, serial: u32, ask_id: u64) -> ResourceKey {
        ResourceKey::new(Kind::Receipt, namespace.clone(), Receipt::name(job, serial, ask_id))
    }

    /// The row of it beside its job.
    pub fn row(&self, job: &Job, now: Time, expire: Time) -> Resource {
        let shard: ShardId = job.shard;
        Resource {
            kind: Kind::Receipt,
            namespace: job.namespace.clone(),
            name: Receipt::name(&job.id, self.serial, self.ask_id),
            shard,
            revision: 1,
            is_live: false,
            create_time: now,
            update_time: now,
            expire_time: Some(expire),
            body: self.body().to_string().into_bytes().into(),
        }
    }

    fn body(&self) -> Value {
        let (kind, told) = match &self.told {
            Told::Ruling(ruling) => ("policy", ruling.body()),
            Told::Grant(grant) => ("budget", grant.body()),
            Told::Spawned(spawned) => ("spawned", spawned.body()),
            Told::Secrets(names) => ("secret", names.iter().map(|name| Value::from(&**name)).collect()),
        };
        json!({
            "serial": self.serial, "ask_id": self.ask_id, "asked": format!("{:032x}", self.asked), kind: told,
        })
    }

    /// Reads a row; none if it is damaged.
    pub fn of(row: &Resource) -> Option<Receipt> {
        let body: Value = serde_json::from_slice(&row.body).ok()?;
        let part = |name: &str| body.get(name);
        let told = if let Some(ruling) = part("policy") {
            Told::Ruling(Box::new(Ruling::of(ruling)?))
        } else if let Some(grant) = part("budget") {
            Told::Grant(Grant::of(grant)?)
        } else if let Some(names) = part("secret") {
            let name = |name: &Value| name.as_str().map(Arc::from);
            Told::Secrets(names.as_array()?.iter().map(name).collect::<Option<_>>()?)
        } else {
            Told::Spawned(Spawned::of(part("spawned")?)?)
        };
        Some(Receipt {
            serial: u32::try_from(body.get("serial")?.as_u64()?).ok()?,
            ask_id: body.get("ask_id")?.as_u64()?,
            asked: u128::from_str_radix(body.get("asked")?.as_str()?, 16).ok()?,
            told,
        })
    }
}

impl Ruling {
    fn body(&self) -> Value {
        json!({
            "action": &*self.action, "resource": &*self.resource, "args_digest": &*self.args_digest,
            "verdict": self.verdict.word(), "policy": &*self.policy, "policy_version": self.policy_version,
            "rule_id": &*self.rule_id, "reason": &*self.reason, "constraints": self.constraints,
        })
    }

    fn of(body: &Value) -> Option<Ruling> {
        let text = |name: &str| Some(Arc::<str>::from(body.get(name)?.as_str()?));
        Some(Ruling {
            action: text("action")?,
            resource: text("resource")?,
            args_digest: text("args_digest")?,
            verdict: Verdict::parse(&text("verdict")?)?,
            policy: text("policy")?,
            policy_version: body.get("policy_version")?.as_u64()?,
            rule_id: text("rule_id")?,
            reason: text("reason")?,
            constraints: body.get("constraints")?.as_object()?.clone(),
        })
    }
}

impl Grant {
    fn body(&self) -> Value {
        json!({
            "dimension": self.dimension.name(), "asked": self.asked, "granted": self.granted,
            "remaining": self.remaining, "model": &*self.model,
        })
    }

    fn of(body: &Value) -> Option<Grant> {
        Some(Grant {
            dimension: Dimension::parse(body.get("dimension")?.as_str()?)?,
            asked: body.get("asked")?.as_u64()?,
            granted: body.get("granted")?.as_u64()?,
            remaining: body.get("remaining")?.as_u64(),
            model: body.get("model")?.as_str()?.into(),
        })
    }
}

impl Spawned {
    fn body(&self) -> Value {
        let jobs: Vec<String> = self.jobs.iter().map(ToString::to_string).collect();
        json!({"name": &*self.name, "jobs": jobs})
    }

    fn of(body: &Value) -> Option<Spawned> {
        let id = |id: &Value| JobId::parse(id.as_str()?).ok();
        Some(Spawned {
            name: body.get("name")?.as_str()?.into(),
            jobs: body.get("jobs")?.as_array()?.iter().map(id).collect::<Option<_>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Payload;
    use crate::job::Spec;

    #[test]
    fn what_was_told_comes_back_as_it_was() {
        let id = JobId::make(1, 1, ShardId(3));
        let spec = Arc::new(Spec::new("job.agent", Payload::empty()));
        let job = Job::submitted(id, Namespace::new("team"), spec, 1, Time(1), None);
        let constraints = json!({"toolchain": {"allowed_tools": ["read"]}});
        let ruling = Ruling {
            action: "repo.write".into(),
            resource: "git://core".into(),
            args_digest: "ab".into(),
            verdict: Verdict::AllowWithConstraints,
            policy: "agents".into(),
            policy_version: u64::MAX,
            rule_id: "writes".into(),
            reason: "look \"twice\"".into(),
            constraints: constraints.as_object().cloned().unwrap_or_default(),
        };
        let grant = |remaining| Grant {
            dimension: Dimension::CostMicros,
            asked: u64::MAX,
            granted: 0,
            remaining,
            model: "m".into(),
        };
        let spawned =
            Told::Spawned(Spawned { name: "1".into(), jobs: vec![job.id.clone(), JobId::Named("x".into())] });
        let secrets = Told::Secrets(vec!["DB".into(), "api.key".into()]);
        let others = [Told::Grant(grant(Some(0))), Told::Grant(grant(None)), secrets];
        for told in [Told::Ruling(Box::new(ruling)), spawned].into_iter().chain(others) {
            let receipt = Receipt { serial: 2, ask_id: u64::MAX, asked: u128::MAX - 1, told };
            let row = receipt.row(&job, Time(5), Time(9));
            assert_eq!(row.key(), Receipt::key(&job.namespace, &job.id, 2, u64::MAX));
            assert_eq!((row.shard, row.is_live, row.expire_time), (job.shard, false, Some(Time(9))));
            assert_eq!(Receipt::of(&row), Some(receipt));
            assert_eq!(Receipt::of(&Resource { body: "{}".into(), ..row }), None);
        }
    }
}
