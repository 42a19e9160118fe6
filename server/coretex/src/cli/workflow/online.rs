//! Workflows on a server: `apply`, `list`, `get`, `versions`, `delete`, and `validate --server`.

use super::super::client::{ClientArgs, request_id};
use super::super::input::of_stamp;
use super::super::problems;
use super::super::shown::{Format, document, line, note, out, print_document};
use super::super::table::{self, Rows, facts, number};
use crate::outcome::{Failure, Outcome, REFUSED};
use coretex_sdk::raw::v1;
use coretex_sdk::{ApplyWorkflow, WorkflowCheck, WorkflowProblem};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// What to keep.
#[derive(Debug, clap::Args)]
pub(crate) struct ApplyArgs {
    /// YAML file
    file: PathBuf,
    /// Only say whether it could be applied, and whether it says something new
    #[arg(long)]
    validate_only: bool,
    /// Only if the workflow is at this revision
    #[arg(long, value_name = "N", default_value_t = 0)]
    revision: u64,
    /// Why; kept with the version
    #[arg(long, value_name = "TEXT", default_value = "")]
    comment: String,
}

/// What to list.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Those that were deleted as well
    #[arg(long)]
    deleted: bool,
    /// Most workflows to show
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    limit: i32,
    /// Continue after a page
    #[arg(long, value_name = "TOKEN", default_value = "")]
    page_token: String,
}

/// What to show.
#[derive(Debug, clap::Args)]
pub(crate) struct GetArgs {
    /// Its name
    name: String,
    /// Another version than the newest
    #[arg(long, value_name = "N", default_value_t = 0)]
    version: u64,
    /// Print its text alone, as it was applied
    #[arg(long, conflicts_with = "definition")]
    text: bool,
    /// Return it as a message too, in documents
    #[arg(long)]
    definition: bool,
}

/// Whose versions to list.
#[derive(Debug, clap::Args)]
pub(crate) struct VersionsArgs {
    /// Its name
    name: String,
    /// Most versions to show
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    limit: i32,
    /// Continue after a page
    #[arg(long, value_name = "TOKEN", default_value = "")]
    page_token: String,
}

/// What to take away.
#[derive(Debug, clap::Args)]
pub(crate) struct DeleteArgs {
    /// Its name
    name: String,
    /// Only if the workflow is at this revision
    #[arg(long, value_name = "N", default_value_t = 0)]
    revision: u64,
}

/// Keeps a workflow.
pub(super) async fn apply(args: ApplyArgs, options: &ClientArgs) -> Outcome {
    let yaml = problems::read(&args.file)?;
    // What is wrong is told with the name of the file, as `validate` tells it.
    coretex_workflow::parse(&yaml)
        .map_err(|problems| problems::unusable("workflow", &args.file, &problems))?;
    let request = v1::ApplyWorkflowRequest {
        source: Some(v1::apply_workflow_request::Source::Yaml(yaml)),
        validate_only: args.validate_only,
        revision: args.revision,
        comment: args.comment,
        request_id: request_id(),
        ..v1::ApplyWorkflowRequest::default()
    };
    let reply = options.connect().await?.raw().workflows().apply_workflow(request).await?.into_inner();
    if options.output != Format::Table {
        return print_document(options.output, &document("ApplyWorkflowResponse", &reply), true);
    }
    let workflow = reply.workflow.unwrap_or_default();
    let (name, version) = (&workflow.name, workflow.version);
    line(match (args.validate_only, reply.created, version) {
        (true, _, 0) => format!("{name} is sound and would be a new version; nothing was changed"),
        (false, true, _) => format!("{name} version {version} was made"),
        (_, false, _) | (true, _, _) => {
            format!("{name} says the same as version {version}; nothing was changed")
        }
    })?;
    for warning in reply.warnings {
        note(format!("warning: {}: {}", warning.field, warning.message));
    }
    Ok(())
}

/// Checks workflows by the server.
pub(super) async fn validate(files: &[PathBuf], options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    let mut found = Vec::new();
    let mut is_good = true;
    for file in files {
        let name = file.display().to_string();
        let check = client.validate_workflow(ApplyWorkflow::yaml(problems::read(file)?), None).await?;
        is_good &= check.valid;
        if options.output == Format::Table {
            tell(&name, &check)?;
        }
        found.push(checked(&name, &check));
    }
    if options.output != Format::Table {
        print_document(options.output, &json!({ "workflows": found }), true)?;
    }
    if is_good { Ok(()) } else { Err(Failure::Said(REFUSED)) }
}

/// As the command says it without a server, and who serves what.
fn tell(file: &str, check: &WorkflowCheck) -> Outcome {
    check.problems.iter().try_for_each(|problem| line(format!("{file}:{problem}")))?;
    if check.more_problems > 0 {
        line(format!("{file}: and {} more", check.more_problems))?;
    }
    if check.valid {
        let (name, steps, topics) = (&check.workflow, check.step_count, check.topics.len());
        line(format!("{file}: {name} is sound, {steps} steps, {topics} topics"))?;
    }
    check.warnings.iter().try_for_each(|one| line(format!("{file}:warning: {one}")))
}

fn checked(file: &str, check: &WorkflowCheck) -> Value {
    if !check.valid {
        return json!({"file": file, "sound": false, "problems": told(&check.problems),
                      "more": check.more_problems});
    }
    let topics: Vec<&str> = check.topics.iter().map(|(topic, _)| topic.as_str()).collect();
    let workers: Map<String, Value> =
        check.topics.iter().map(|(topic, workers)| (topic.clone(), (*workers).into())).collect();
    json!({"file": file, "sound": true, "name": check.workflow, "steps": check.step_count, "topics": topics,
           "workers": workers, "warnings": told(&check.warnings)})
}

fn told(problems: &[WorkflowProblem]) -> Vec<Value> {
    let one = |problem: &WorkflowProblem| {
        json!({"line": problem.line, "column": problem.column, "field": problem.path,
               "message": problem.message})
    };
    problems.iter().map(one).collect()
}

fn rows(workflows: Vec<v1::Workflow>) -> Rows {
    let mut rows = Rows::new(["NAME", "VERSION", "STEPS", "TOPICS", "AGE", "BY", "STANDING", "COMMENT"]);
    for workflow in workflows {
        rows.add([
            workflow.name.clone().into(),
            number(workflow.version),
            number(workflow.step_count),
            number(workflow.topic_count),
            table::age(workflow.create_time.and_then(of_stamp)).into(),
            workflow.actor.clone().into(),
            standing(&workflow).into(),
            workflow.comment.clone().into(),
        ]);
    }
    rows
}

fn standing(workflow: &v1::Workflow) -> &'static str {
    match (workflow.delete_time, workflow.version == workflow.newest_version) {
        (Some(_), _) => "deleted",
        (None, true) => "newest",
        (None, false) => "",
    }
}

fn page(workflows: Vec<v1::Workflow>, next: &str) -> Outcome {
    let rows = rows(workflows);
    if rows.is_empty() {
        note("no workflows");
        return Ok(());
    }
    out(&rows.text())?;
    if !next.is_empty() {
        note(format!("more: --page-token {next}"));
    }
    Ok(())
}

/// Lists workflows.
pub(super) async fn list(args: ListArgs, options: &ClientArgs) -> Outcome {
    let request = v1::ListWorkflowsRequest {
        page_size: args.limit,
        page_token: args.page_token,
        show_deleted: args.deleted,
        ..v1::ListWorkflowsRequest::default()
    };
    let reply = options.connect().await?.raw().workflows().list_workflows(request).await?.into_inner();
    match options.output {
        Format::Table => page(reply.workflows, &reply.next_page_token),
        format => print_document(format, &document("ListWorkflowsResponse", &reply), true),
    }
}

/// Shows a workflow.
pub(super) async fn get(args: GetArgs, options: &ClientArgs) -> Outcome {
    if args.definition && options.output == Format::Table {
        return Err(Failure::Usage("--definition is for documents: add -o json or -o yaml".into()));
    }
    let request = v1::GetWorkflowRequest {
        workflow: args.name,
        version: args.version,
        view: v1::View::Full.into(),
        with_definition: args.definition,
    };
    let reply = options.connect().await?.raw().workflows().get_workflow(request).await?.into_inner();
    if options.output != Format::Table && !args.text {
        return print_document(options.output, &document("GetWorkflowResponse", &reply), true);
    }
    let workflow = reply.workflow.unwrap_or_default();
    if args.text {
        return out(&workflow.yaml);
    }
    out(&facts(&[
        ("name", workflow.name.clone()),
        ("version", format!("{} of {}", workflow.version, workflow.newest_version)),
        ("standing", standing(&workflow).to_owned()),
        ("about", workflow.description.clone()),
        ("steps", workflow.step_count.to_string()),
        ("revision", workflow.revision.to_string()),
        ("digest", workflow.digest.chars().take(12).collect()),
        ("by", workflow.actor.clone()),
        ("comment", workflow.comment.clone()),
        ("made", table::time(workflow.create_time.and_then(of_stamp))),
        ("deleted", table::time(workflow.delete_time.and_then(of_stamp))),
    ]))?;
    out(&format!("\n{}\n", workflow.yaml.trim_end()))
}

/// Lists the versions of a workflow.
pub(super) async fn versions(args: VersionsArgs, options: &ClientArgs) -> Outcome {
    let request = v1::ListWorkflowVersionsRequest {
        workflow: args.name,
        page_size: args.limit,
        page_token: args.page_token,
        view: 0,
    };
    let reply =
        options.connect().await?.raw().workflows().list_workflow_versions(request).await?.into_inner();
    match options.output {
        Format::Table => page(reply.workflows, &reply.next_page_token),
        format => print_document(format, &document("ListWorkflowVersionsResponse", &reply), true),
    }
}

/// Takes a workflow away.
pub(super) async fn delete(args: DeleteArgs, options: &ClientArgs) -> Outcome {
    let request = v1::DeleteWorkflowRequest {
        workflow: args.name.clone(),
        revision: args.revision,
        request_id: request_id(),
    };
    let reply = options.connect().await?.raw().workflows().delete_workflow(request).await?.into_inner();
    match options.output {
        Format::Table if reply.deleted => line(format!("{} was deleted; its versions stay", args.name)),
        Format::Table => line(format!("{} was deleted before", args.name)),
        format => print_document(format, &document("DeleteWorkflowResponse", &reply), true),
    }
}
