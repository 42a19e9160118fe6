//! `policy check` and `explain` by the server, `simulate`, `get`, `list`, `versions`, `decisions`.

use super::super::client::ClientArgs;
use super::super::input::{all_of, equals, of_stamp};
use super::super::problems;
use super::super::shown::{Format, document, line, note, out, print_document};
use super::super::table::{self, Rows, facts, number};
use super::JobArgs;
use crate::outcome::{Failure, Outcome};
use coretex_policy::Bundle;
use coretex_sdk::raw::v1;
use std::path::PathBuf;

/// Whom to put in the place of a policy, and over which jobs.
#[derive(Debug, clap::Args)]
pub(crate) struct SimulateArgs {
    /// YAML file with the candidate
    #[arg(required_unless_present = "name")]
    file: Option<PathBuf>,
    /// A version there is, instead of a file: its policy
    #[arg(long, requires = "version", conflicts_with = "file")]
    name: Option<String>,
    /// A version there is, instead of a file: its number
    #[arg(long, value_name = "N", requires = "name", default_value_t = 0)]
    version: u64,
    /// Which jobs, for example: topic = "job.mail" AND create_time > "2027-01-01T00:00:00Z"
    #[arg(long, value_name = "EXPR", default_value = "")]
    filter: String,
    /// Most jobs to judge, newest first
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    max_jobs: u32,
    /// Samples of each change
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    samples: u32,
}

/// Which decisions to list.
#[derive(Debug, clap::Args)]
pub(crate) struct DecisionsArgs {
    /// Filter, for example: decision.verdict = DENY AND topic = "job.mail"
    #[arg(long, value_name = "EXPR")]
    filter: Option<String>,
    /// Only this verdict, for example DENY
    #[arg(long)]
    verdict: Option<String>,
    /// Only decisions of this rule
    #[arg(long, value_name = "ID")]
    rule: Option<String>,
    /// Most decisions to show
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    limit: i32,
    /// Continue after a page
    #[arg(long, value_name = "TOKEN", default_value = "")]
    page_token: String,
}

fn verdict(number: i32) -> &'static str {
    let verdict = v1::Verdict::try_from(number).unwrap_or_default();
    verdict.as_str_name().strip_prefix("VERDICT_").unwrap_or("UNSPECIFIED")
}

fn decision_pairs(decision: &v1::Decision) -> Vec<(&'static str, String)> {
    let remedies: Vec<&str> = decision.remediations.iter().map(|one| one.title.as_str()).collect();
    vec![
        ("verdict", verdict(decision.verdict).to_owned()),
        ("policy", decision.policy.clone()),
        ("rule", decision.rule_id.clone()),
        ("reason", decision.reason.clone()),
        ("remedies", remedies.join("; ")),
    ]
}

/// The client of the namespace the job would be submitted in.
fn client_for<'a>(job: &JobArgs, options: &'a ClientArgs) -> std::borrow::Cow<'a, ClientArgs> {
    match &job.tenant {
        None => std::borrow::Cow::Borrowed(options),
        Some(tenant) => {
            std::borrow::Cow::Owned(ClientArgs { namespace: Some(tenant.clone()), ..options.clone() })
        }
    }
}

/// Asks what is decided about a job.
pub(super) async fn check(job: &JobArgs, options: &ClientArgs) -> Outcome {
    let request = v1::CheckPolicyRequest {
        spec: Some(job.spec()?),
        actor: job.actor.clone(),
        on_behalf: false,
        config: None,
    };
    let reply =
        client_for(job, options).connect().await?.raw().safety().check_policy(request).await?.into_inner();
    match options.output {
        Format::Table => out(&facts(&decision_pairs(&reply.decision.unwrap_or_default()))),
        format => print_document(format, &document("CheckPolicyResponse", &reply), true),
    }
}

/// The same, with every rule.
pub(super) async fn explain(job: &JobArgs, options: &ClientArgs) -> Outcome {
    let request = v1::ExplainPolicyRequest { spec: Some(job.spec()?), actor: job.actor.clone() };
    let reply =
        client_for(job, options).connect().await?.raw().safety().explain_policy(request).await?.into_inner();
    if options.output != Format::Table {
        return print_document(options.output, &document("ExplainPolicyResponse", &reply), true);
    }
    out(&facts(&decision_pairs(&reply.decision.unwrap_or_default())))?;
    for rule in reply.considered {
        let (policy, id) = (rule.policy, rule.rule_id);
        line(format!("  {policy}/{id} ({}): {}", verdict(rule.verdict), rule.message))?;
    }
    Ok(())
}

/// Says what a candidate would change.
pub(super) async fn simulate(args: SimulateArgs, options: &ClientArgs) -> Outcome {
    let (name, yaml) = match (&args.file, &args.name) {
        (Some(file), _) => {
            let yaml = problems::read(file)?;
            let bundle =
                Bundle::parse(&yaml).map_err(|problems| problems::unusable("bundle", file, &problems))?;
            (bundle.name.to_string(), yaml)
        }
        (None, Some(name)) => (name.clone(), String::new()),
        (None, None) => {
            return Err(Failure::Usage("which candidate? give a file, or --name and --version".into()));
        }
    };
    let request = v1::SimulatePolicyRequest {
        name,
        yaml,
        version: args.version,
        filter: args.filter,
        max_jobs: args.max_jobs,
        max_samples: args.samples,
    };
    let reply = options.connect().await?.raw().safety().simulate_policy(request).await?.into_inner();
    if options.output != Format::Table {
        return print_document(options.output, &document("SimulatePolicyResponse", &reply), true);
    }
    reply.differences.iter().try_for_each(|difference| line(format!("  {difference}")))?;
    let found = reply.comparison.unwrap_or_default();
    let bound = if reply.exact { "" } else { ", not all there are" };
    line(format!(
        "{} jobs judged{bound}: {} with another verdict, {} on other terms",
        found.judged, found.changed, found.other_terms
    ))?;
    show_comparison(&found)
}

fn show_comparison(found: &v1::PolicyComparison) -> Outcome {
    for pair in found.pairs.iter().filter(|pair| pair.old != pair.new) {
        line(format!("{} -> {}: {}", verdict(pair.old), verdict(pair.new), pair.count))?;
        for job in &pair.samples {
            line(format!("  {}  {} -> {}  {}", job.name, job.old_rule_id, job.new_rule_id, job.reason))?;
        }
    }
    Ok(())
}

/// Shows a policy.
pub(super) async fn get(name: String, version: u64, options: &ClientArgs) -> Outcome {
    let request = v1::GetPolicyRequest { name, version, view: v1::View::Full.into() };
    let reply = options.connect().await?.raw().safety().get_policy(request).await?.into_inner();
    if options.output != Format::Table {
        return print_document(options.output, &document("GetPolicyResponse", &reply), true);
    }
    let policy = reply.policy.unwrap_or_default();
    out(&facts(&[
        ("name", policy.name.clone()),
        ("version", version_text(&policy)),
        ("standing", standing(&policy).to_owned()),
        ("revision", policy.revision.to_string()),
        ("digest", policy.digest.chars().take(12).collect()),
        ("by", policy.actor.clone()),
        ("comment", policy.comment.clone()),
        ("made", table::time(policy.create_time.and_then(of_stamp))),
    ]))?;
    if let Some(report) = &policy.shadow_report {
        line(format!("shadow    {} of {} jobs would have another verdict", report.changed, report.judged))?;
        show_comparison(report)?;
    }
    out(&format!("\n{}\n", policy.yaml.trim_end()))
}

fn version_text(policy: &v1::Policy) -> String {
    if policy.version == 0 { "built in".into() } else { policy.version.to_string() }
}

fn standing(policy: &v1::Policy) -> &'static str {
    match (policy.in_force, policy.is_shadow) {
        (true, _) => "in force",
        (false, true) => "shadow",
        (false, false) => "",
    }
}

fn rows(policies: Vec<v1::Policy>) -> Rows {
    let mut rows = Rows::new(["NAME", "VERSION", "STANDING", "RULES", "AGE", "BY", "COMMENT"]);
    for policy in policies {
        rows.add([
            policy.name.clone().into(),
            number(version_text(&policy)),
            standing(&policy).into(),
            number(policy.rule_count),
            table::age(policy.create_time.and_then(of_stamp)).into(),
            policy.actor.clone().into(),
            policy.comment.clone().into(),
        ]);
    }
    rows
}

/// Lists the policies.
pub(super) async fn list(options: &ClientArgs) -> Outcome {
    let request = v1::ListPoliciesRequest { page_size: 1_000, ..Default::default() };
    let reply = options.connect().await?.raw().safety().list_policies(request).await?.into_inner();
    match options.output {
        Format::Table => out(&rows(reply.policies).text()),
        format => print_document(format, &document("ListPoliciesResponse", &reply), true),
    }
}

/// Lists the versions of a policy.
pub(super) async fn versions(name: String, limit: i32, options: &ClientArgs) -> Outcome {
    let request = v1::ListPolicyVersionsRequest { name, page_size: limit, ..Default::default() };
    let reply = options.connect().await?.raw().safety().list_policy_versions(request).await?.into_inner();
    match options.output {
        Format::Table => out(&rows(reply.policies).text()),
        format => print_document(format, &document("ListPolicyVersionsResponse", &reply), true),
    }
}

/// Lists decisions.
pub(super) async fn decisions(args: DecisionsArgs, options: &ClientArgs) -> Outcome {
    let word = |text: String| format!("decision.verdict = {}", text.to_uppercase().replace('-', "_"));
    let rule = args.rule.map(|rule| equals("decision.rule_id", &rule));
    let filter = all_of([args.filter, args.verdict.map(word), rule].into_iter().flatten());
    let request = v1::ListDecisionsRequest {
        filter,
        page_size: args.limit,
        page_token: args.page_token,
        ..Default::default()
    };
    let reply = options.connect().await?.raw().safety().list_decisions(request).await?.into_inner();
    if options.output != Format::Table {
        return print_document(options.output, &document("ListDecisionsResponse", &reply), true);
    }
    let mut rows = Rows::new(["JOB", "TOPIC", "VERDICT", "POLICY", "RULE", "AGE", "REASON"]);
    for record in reply.decisions {
        let decision = record.decision.unwrap_or_default();
        rows.add([
            record.job_id.into(),
            record.topic.into(),
            verdict(decision.verdict).into(),
            decision.policy.into(),
            decision.rule_id.into(),
            table::age(decision.decide_time.and_then(of_stamp)).into(),
            decision.reason.into(),
        ]);
    }
    if rows.is_empty() {
        note("no decisions");
        return Ok(());
    }
    out(&rows.text())?;
    if !reply.next_page_token.is_empty() {
        note(format!("more: --page-token {}", reply.next_page_token));
    }
    Ok(())
}
