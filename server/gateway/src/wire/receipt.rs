//! Receipts of questions to the wire.

use super::time::timestamp;
use super::{job, json};
use coretex_contract::v1::{self as pb, ask_receipt};
use coretex_domain::Time;
use coretex_engine::api::{Grant, Receipt, Ruling, Spawned, Told};

pub(crate) fn write(name: &str, time: Time, receipt: &Receipt) -> pb::AskReceipt {
    let told = match &receipt.told {
        Told::Ruling(ruling) => ask_receipt::Told::Policy(action(ruling)),
        Told::Grant(grant) => ask_receipt::Told::Budget(budget(grant)),
        Told::Secrets(names) => {
            let names = names.iter().map(ToString::to_string).collect();
            ask_receipt::Told::Secrets(pb::SecretReceipt { names })
        }
        Told::Spawned(made) => ask_receipt::Told::Spawned(spawned(made)),
    };
    pb::AskReceipt {
        receipt_id: name.to_owned(),
        lease_serial: receipt.serial,
        ask_id: receipt.ask_id,
        create_time: Some(timestamp(time)),
        told: Some(told),
    }
}

fn action(ruling: &Ruling) -> pb::ActionReceipt {
    let constraints = (!ruling.constraints.is_empty())
        .then(|| json::object_of(serde_json::Value::Object(ruling.constraints.clone())));
    pb::ActionReceipt {
        action: ruling.action.to_string(),
        resource: ruling.resource.to_string(),
        args_digest: ruling.args_digest.to_string(),
        verdict: job::verdict(ruling.verdict).into(),
        policy: ruling.policy.to_string(),
        policy_version: ruling.policy_version.to_string(),
        rule_id: ruling.rule_id.to_string(),
        reason: ruling.reason.to_string(),
        constraints: constraints.flatten(),
    }
}

fn budget(grant: &Grant) -> pb::BudgetReceipt {
    pb::BudgetReceipt {
        dimension: grant.dimension.name().to_owned(),
        asked: grant.asked,
        granted: grant.granted,
        remaining: grant.remaining,
        model: grant.model.to_string(),
    }
}

fn spawned(spawned: &Spawned) -> pb::SpawnReceipt {
    let job_ids = spawned.jobs.iter().map(ToString::to_string).collect();
    pb::SpawnReceipt { name: spawned.name.to_string(), job_ids }
}
