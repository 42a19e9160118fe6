//! Bundles looked at before anybody is judged by them. No server is asked.

use super::super::input;
use super::super::problems::{read, tell, unusable};
use super::super::shown::{Format, line, out, print_document};
use super::super::table::facts;
use super::job::JobArgs;
use crate::outcome::{Failure, Outcome, REFUSED};
use coretex_contract::v1::payload::Body;
use coretex_policy::{Bundle, Considered, Facts, Memo, Outcome as Ruled, compile, diff, explain, word};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn parse(file: &Path) -> Outcome<Bundle> {
    Bundle::parse(&read(file)?).map_err(|problems| unusable("bundle", file, &problems))
}

/// Checks bundles.
pub(super) fn check(files: &[PathBuf], format: Format) -> Outcome {
    let mut documents = Vec::new();
    let mut is_good = true;
    for file in files {
        let name = file.display().to_string();
        let document = match Bundle::parse(&read(file)?) {
            Ok(bundle) => sound(&name, &bundle, format)?,
            Err(problems) => {
                is_good = false;
                tell(&name, &problems, format)?
            }
        };
        documents.push(document);
    }
    if format != Format::Table {
        print_document(format, &json!({"bundles": documents}), true)?;
    }
    if is_good { Ok(()) } else { Err(Failure::Said(REFUSED)) }
}

fn sound(name: &str, bundle: &Bundle, format: Format) -> Outcome<Value> {
    let shadowed = bundle.shadowed();
    if format == Format::Table {
        let version = bundle.version();
        let rules = bundle.rules.len();
        line(format!("{name}: {} is sound, {rules} rules, version {}", bundle.name, &version[..12]))?;
        if bundle.allows_all() {
            line(format!("{name}: warning: it allows everything; production wants rules of its own"))?;
        }
        shadowed.iter().try_for_each(|one| line(format!("{name}: warning: {one}")))?;
    }
    let warnings: Vec<String> = shadowed.iter().map(ToString::to_string).collect();
    Ok(json!({"file": name, "sound": true, "name": &*bundle.name, "version": bundle.version(),
              "rules": bundle.rules.len(), "allows_all": bundle.allows_all(), "never_decide": warnings}))
}

/// Says what a bundle decides about a job.
pub(super) fn explain_job(file: &Path, args: &JobArgs, format: Format) -> Outcome {
    let policy = compile(parse(file)?);
    let shared = |texts: &[String]| texts.iter().map(|text| Arc::from(text.as_str())).collect::<Vec<_>>();
    let (capabilities, risk_tags, requires) =
        (shared(&args.capabilities), shared(&args.risk_tags), shared(&args.requires));
    let labels: Vec<(Arc<str>, Arc<str>)> =
        args.labels.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect();
    let payload = match &args.data {
        Some(data) => input::payload(data, args.content_type.as_deref())?,
        None => Default::default(),
    };
    let bytes = match payload.body {
        Some(Body::Data(bytes)) => bytes,
        Some(Body::Json(_)) | None => Default::default(),
    };
    let job = Facts {
        namespace: args.tenant.as_deref().unwrap_or("default"),
        topic: args.topic()?,
        actor: &args.actor,
        actor_type: &args.actor_type,
        capabilities: &capabilities,
        risk_tags: &risk_tags,
        requires: &requires,
        labels: &labels,
        pack: &args.pack,
        priority: args.priority,
        payload: &bytes,
        content_type: &payload.content_type,
        config: None,
    };
    let ruled = Memo::default().judge(&policy, &job);
    let considered = explain(&policy, &job);
    match format {
        Format::Table => {
            out(&facts(&ruling_pairs(&ruled)))?;
            considered.iter().try_for_each(|one| line(format!("  {one}")))
        }
        format => print_document(format, &ruling_document(&ruled, &considered, policy.version()), true),
    }
}

fn rule_of(ruled: &Ruled) -> &str {
    if ruled.ruling.rule_id.is_empty() { "(default)" } else { &ruled.ruling.rule_id }
}

fn ruling_pairs(ruled: &Ruled) -> Vec<(&'static str, String)> {
    let remedies: Vec<&str> = ruled.ruling.remediations.iter().map(|one| &*one.title).collect();
    vec![
        ("verdict", word(ruled.verdict()).to_owned()),
        ("rule", rule_of(ruled).to_owned()),
        ("reason", ruled.reason().to_string()),
        ("remedies", remedies.join("; ")),
    ]
}

fn ruling_document(ruled: &Ruled, considered: &[Considered], version: &str) -> Value {
    let rules = considered
        .iter()
        .map(|one| json!({"rule": &*one.rule_id, "verdict": word(one.verdict), "standing": one.to_string()}));
    json!({
        "verdict": word(ruled.verdict()), "rule": &*ruled.ruling.rule_id, "reason": ruled.reason().to_string(),
        "fault": ruled.fault.as_deref(), "policy_version": version, "considered": rules.collect::<Vec<_>>(),
    })
}

/// Shows what differs between two bundles.
pub(super) fn show_diff(old: &Path, new: &Path, format: Format) -> Outcome {
    let found = diff(&parse(old)?, &parse(new)?);
    match format {
        Format::Table if found.is_empty() => line("the bundles say the same"),
        Format::Table => out(&found.to_string()),
        format => {
            let ids = |ids: &[Arc<str>]| ids.iter().map(|id| id.to_string()).collect::<Vec<_>>();
            let fields = |fields: &[coretex_policy::Field]| {
                let field = |f: &coretex_policy::Field| json!({"path": f.path, "old": f.old, "new": f.new});
                fields.iter().map(field).collect::<Vec<_>>()
            };
            let changed =
                found.changed.iter().map(|c| json!({"rule": &*c.rule_id, "fields": fields(&c.fields)}));
            let default = found.default.map(|(old, new)| json!({"old": word(old), "new": word(new)}));
            let document = json!({
                "same": found.is_empty(), "default": default, "about": fields(&found.about),
                "added": ids(&found.added), "removed": ids(&found.removed), "moved": ids(&found.moved),
                "changed": changed.collect::<Vec<_>>(),
            });
            print_document(format, &document, true)
        }
    }
}
