//! `config get`, `effective`, `list`, `history`, `watch`.

use super::super::client::ClientArgs;
use super::super::input;
use super::super::shown::{Format, clean, document, line, note, out, print_document, yaml};
use super::super::table::{self, Rows, facts, number};
use super::{ChainArgs, Scope, level_and_id, scope, shown_scope};
use crate::outcome::Outcome;
use coretex_domain::config::{Path, lookup};
use coretex_sdk::raw::v1;
use coretex_sdk::{ConfigChain, ConfigStep};
use futures::StreamExt as _;
use serde_json::Value;

/// Which layers.
#[derive(Debug, clap::Args)]
pub(crate) struct EffectiveArgs {
    #[command(flatten)]
    chain: ChainArgs,
    /// As this job was submitted
    #[arg(long, value_name = "JOB_ID", default_value = "", conflicts_with_all = ["team", "workflow", "step"])]
    job: String,
}

/// Which revisions.
#[derive(Debug, clap::Args)]
pub(crate) struct HistoryArgs {
    /// Scope: system, org, team/NAME, workflow/NAME or step/NAME
    #[arg(default_value = "org", value_parser = scope)]
    scope: Scope,
    /// As many as this
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Show the data of each revision
    #[arg(long)]
    data: bool,
}

/// What to follow.
#[derive(Debug, clap::Args)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    chain: ChainArgs,
    /// Continue exactly after the message that carried this token
    #[arg(long, value_name = "TOKEN", default_value = "")]
    resume: String,
}

pub(super) async fn get(scope: Scope, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    let request = v1::GetConfigRequest { scope: Some(scope.0) };
    let reply = client.raw().configs().get_config(request).await?.into_inner();
    let shown = document("GetConfigResponse", &reply);
    if options.output != Format::Table {
        return print_document(options.output, &shown, true);
    }
    let Some(config) = &reply.config else { return Ok(()) };
    let pairs = [
        ("scope", shown_scope(config.scope.as_ref())),
        ("revision", config.revision.to_string()),
        ("changed", table::time(config.update_time.and_then(input::of_stamp))),
        ("by", config.actor.clone()),
        ("comment", config.comment.clone()),
    ];
    out(&facts(&pairs))?;
    line("")?;
    out(&clean(&yaml(&part(&shown, &["config", "data"]))?))
}

pub(super) async fn effective(args: EffectiveArgs, options: &ClientArgs) -> Outcome {
    let ChainArgs { team, workflow, step } = args.chain;
    let request =
        v1::GetEffectiveConfigRequest { team, workflow, step, job_id: args.job, ..Default::default() };
    let client = options.connect().await?;
    let reply = client.raw().configs().get_effective_config(request).await?.into_inner();
    let shown = document("GetEffectiveConfigResponse", &reply);
    if options.output != Format::Table {
        return print_document(options.output, &shown, true);
    }
    if reply.sources.is_empty() {
        note("no configuration");
        return Ok(());
    }
    let data = part(&shown, &["data"]);
    let mut rows = Rows::new(["KEY", "VALUE", "SET BY", "REVISION"]);
    for (path, by) in &reply.sources {
        let value = path.parse::<Path>().ok().and_then(|path| lookup(&data, &path).cloned());
        rows.add([
            path.clone().into(),
            value.unwrap_or_default().to_string().into(),
            level_and_id(by.level(), &by.id).into(),
            number(by.revision),
        ]);
    }
    out(&rows.text())?;
    note(format!("digest {}", reply.digest));
    Ok(())
}

/// A part of a document, null where there is none.
fn part(document: &Value, keys: &[&str]) -> Value {
    keys.iter().try_fold(document, |part, key| part.get(key)).cloned().unwrap_or_default()
}

pub(super) async fn list(filter: String, full: bool, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    let view = if full && options.output != Format::Table { v1::View::Full } else { v1::View::Basic };
    let mut all = v1::ListConfigsResponse::default();
    loop {
        let request = v1::ListConfigsRequest {
            filter: filter.clone(),
            page_size: 1_000,
            page_token: std::mem::take(&mut all.next_page_token),
            view: view.into(),
            ..Default::default()
        };
        let page = client.raw().configs().list_configs(request).await?.into_inner();
        all.configs.extend(page.configs);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    if options.output != Format::Table {
        return print_document(options.output, &document("ListConfigsResponse", &all), true);
    }
    if all.configs.is_empty() {
        note("no configuration");
        return Ok(());
    }
    let mut rows = Rows::new(["SCOPE", "REVISION", "CHANGED", "BY", "COMMENT"]);
    for config in all.configs {
        rows.add([
            shown_scope(config.scope.as_ref()).into(),
            number(config.revision),
            table::time(config.update_time.and_then(input::of_stamp)).into(),
            config.actor.into(),
            config.comment.into(),
        ]);
    }
    out(&rows.text())
}

pub(super) async fn history(args: HistoryArgs, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    let mut all = v1::GetConfigHistoryResponse::default();
    let limit = args.limit as usize;
    while all.revisions.len() < limit {
        let left = limit - all.revisions.len();
        let request = v1::GetConfigHistoryRequest {
            scope: Some(args.scope.0.clone()),
            page_size: i32::try_from(left.min(1_000)).unwrap_or(1_000),
            page_token: std::mem::take(&mut all.next_page_token),
        };
        let page = client.raw().configs().get_config_history(request).await?.into_inner();
        all.revisions.extend(page.revisions);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    let shown = document("GetConfigHistoryResponse", &all);
    if options.output != Format::Table {
        return print_document(options.output, &shown, true);
    }
    if args.data {
        return revisions_with_data(&all, &shown);
    }
    let mut rows = Rows::new(["REVISION", "TIME", "CHANGE", "BY", "COMMENT"]);
    for one in all.revisions {
        rows.add([
            number(one.revision),
            table::time(one.time.and_then(input::of_stamp)).into(),
            change(&one).into(),
            one.actor.into(),
            one.comment.into(),
        ]);
    }
    out(&rows.text())
}

fn revisions_with_data(all: &v1::GetConfigHistoryResponse, shown: &Value) -> Outcome {
    let documents = part(shown, &["revisions"]);
    for (one, document) in all.revisions.iter().zip(documents.as_array().into_iter().flatten()) {
        let time = table::time(one.time.and_then(input::of_stamp));
        line(clean(&format!(
            "# revision {}  {time}  {}  {}  {}",
            one.revision,
            change(one),
            one.actor,
            one.comment
        )))?;
        if one.data.is_some() {
            out(&clean(&yaml(&part(document, &["data"]))?))?;
        }
    }
    Ok(())
}

/// How a revision was made.
fn change(one: &v1::ConfigRevision) -> String {
    match one.change() {
        v1::ConfigChange::Rollback => format!("rollback to {}", one.restored_revision),
        other => other.as_str_name().trim_start_matches("CONFIG_CHANGE_").to_lowercase(),
    }
}

pub(super) async fn watch(args: WatchArgs, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    let ChainArgs { team, workflow, step } = args.chain;
    if options.output != Format::Table {
        let request =
            v1::WatchConfigRequest { team, workflow, step, resume_token: args.resume, ..Default::default() };
        let mut steps = client.raw().configs().watch_config(request).await?.into_inner();
        while let Some(step) = steps.message().await? {
            print_document(options.output, &document("WatchConfigResponse", &step), false)?;
        }
        return Ok(());
    }
    let chain = ConfigChain::org().team(team).workflow(workflow).step(step);
    let mut steps = std::pin::pin!(client.watch_config(chain, args.resume));
    while let Some(step) = steps.next().await.transpose()? {
        line(clean(&told(&step)))?;
    }
    Ok(())
}

fn told(step: &ConfigStep) -> String {
    let digest = step.config.digest.get(..12).unwrap_or_default();
    let Some(change) = &step.change else { return format!("EXISTING  {digest}  {}", step.config.data) };
    let (time, scope, revision) = (table::time(change.time), &change.scope, change.revision);
    format!("{time}  {}  {scope}  revision {revision}  {digest}  {}", change.change, step.config.data)
}
