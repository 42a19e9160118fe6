//! `coretex admin namespaces`: tenants and their quotas.

use super::super::client::{ClientArgs, request_id};
use super::super::input;
use super::super::shown::{Format, document, line, out, print_document};
use super::super::table::{Rows, facts, number};
use crate::outcome::Outcome;
use crate::units::Span;
use coretex_contract::Duration;
use coretex_sdk::raw::v1;

/// Commands about namespaces.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum NamespacesCommand {
    /// Make a namespace
    Create(ChangeArgs),
    /// Change a namespace; what is not given stays as it is
    Update(ChangeArgs),
    /// Show a namespace and what it uses
    Get {
        /// Its name
        name: String,
    },
    /// List the namespaces that were made
    List,
    /// Delete a namespace without open jobs
    Delete {
        /// Its name
        name: String,
    },
}

/// How a namespace is to be.
#[derive(Debug, clap::Args)]
pub(crate) struct ChangeArgs {
    /// Its name
    name: String,
    /// For people
    #[arg(long)]
    description: Option<String>,
    /// Whether topics must be declared before they are submitted to
    #[arg(long, value_name = "true|false")]
    topics_declared: Option<bool>,
    /// Jobs that have not ended
    #[arg(long, value_name = "N")]
    open_jobs_max: Option<u64>,
    /// Jobs submitted per second
    #[arg(long, value_name = "N")]
    submits_per_second: Option<u64>,
    /// Payload bytes submitted per second
    #[arg(long, value_name = "N")]
    payload_bytes_per_second: Option<u64>,
    /// Sessions of workers
    #[arg(long, value_name = "N")]
    worker_sessions_max: Option<u64>,
    /// Open watches
    #[arg(long, value_name = "N")]
    watches_max: Option<u64>,
    /// How long ended jobs are kept that do not say so, 1m to 3660d
    #[arg(long, value_name = "SPAN")]
    retention: Option<Span>,
    /// How long dead letters are kept, 1m to 3660d
    #[arg(long, value_name = "SPAN")]
    dead_letter_retention: Option<Span>,
    /// Setting to take away, by its name, for example open_jobs_max or retention; may be repeated
    #[arg(long, value_name = "SETTING", value_parser = RESETTABLE)]
    reset: Vec<String>,
}

const RESETTABLE: [&str; 7] = [
    "open_jobs_max",
    "submits_per_second",
    "payload_bytes_per_second",
    "worker_sessions_max",
    "watches_max",
    "retention",
    "dead_letter_retention",
];

/// Runs the command.
pub(crate) async fn run(command: NamespacesCommand, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    let mut namespaces = client.raw().namespaces();
    match command {
        NamespacesCommand::Create(args) => {
            let request = v1::CreateNamespaceRequest {
                namespace: args.name.clone(),
                settings: Some(args.over(v1::NamespaceSettings::default())),
                request_id: request_id(),
            };
            let reply = namespaces.create_namespace(request).await?.into_inner();
            print_one(options.output, "CreateNamespaceResponse", &reply, reply.namespace.as_ref())
        }
        NamespacesCommand::Update(args) => {
            let get = v1::GetNamespaceRequest { namespace: args.name.clone() };
            let present = namespaces.get_namespace(get).await?.into_inner().namespace.unwrap_or_default();
            let request = v1::UpdateNamespaceRequest {
                namespace: args.name.clone(),
                settings: Some(args.over(present.settings.unwrap_or_default())),
                // Nobody else's change is lost.
                revision: present.revision,
                request_id: request_id(),
            };
            let reply = namespaces.update_namespace(request).await?.into_inner();
            print_one(options.output, "UpdateNamespaceResponse", &reply, reply.namespace.as_ref())
        }
        NamespacesCommand::Get { name } => {
            let reply = namespaces.get_namespace(v1::GetNamespaceRequest { namespace: name }).await?;
            let reply = reply.into_inner();
            print_one(options.output, "GetNamespaceResponse", &reply, reply.namespace.as_ref())
        }
        NamespacesCommand::List => {
            let mut all = v1::ListNamespacesResponse::default();
            loop {
                let page_token = std::mem::take(&mut all.next_page_token);
                let request =
                    v1::ListNamespacesRequest { page_size: 1_000, page_token, ..Default::default() };
                let page = namespaces.list_namespaces(request).await?.into_inner();
                all.namespaces.extend(page.namespaces);
                all.next_page_token = page.next_page_token;
                if all.next_page_token.is_empty() {
                    break print_list(options.output, &all);
                }
            }
        }
        NamespacesCommand::Delete { name } => {
            let request =
                v1::DeleteNamespaceRequest { namespace: name.clone(), revision: 0, request_id: request_id() };
            let reply = namespaces.delete_namespace(request).await?.into_inner();
            match options.output {
                Format::Table if reply.deleted => line(format!("{name}  deleted")),
                Format::Table => line(format!("{name}  was not there")),
                format => print_document(format, &document("DeleteNamespaceResponse", &reply), true),
            }
        }
    }
}

impl ChangeArgs {
    fn over(&self, present: v1::NamespaceSettings) -> v1::NamespaceSettings {
        let quotas = present.quotas.unwrap_or_default();
        let is_reset = |name: &str| self.reset.iter().any(|reset| reset == name);
        let of = |name: &str, given: Option<u64>, present: Option<u64>| {
            given.or(present.filter(|_| !is_reset(name)))
        };
        let kept = |name: &str, given: Option<Span>, present: Option<Duration>| {
            let given = given.map(|Span(span)| input::span(span));
            given.or(present.filter(|_| !is_reset(name)))
        };
        v1::NamespaceSettings {
            description: self.description.clone().unwrap_or(present.description),
            topics_declared: self.topics_declared.unwrap_or(present.topics_declared),
            retention: kept("retention", self.retention, present.retention),
            dead_letter_retention: kept(
                "dead_letter_retention",
                self.dead_letter_retention,
                present.dead_letter_retention,
            ),
            quotas: Some(v1::NamespaceQuotas {
                open_jobs_max: of("open_jobs_max", self.open_jobs_max, quotas.open_jobs_max),
                submits_per_second: of(
                    "submits_per_second",
                    self.submits_per_second,
                    quotas.submits_per_second,
                ),
                payload_bytes_per_second: of(
                    "payload_bytes_per_second",
                    self.payload_bytes_per_second,
                    quotas.payload_bytes_per_second,
                ),
                worker_sessions_max: of(
                    "worker_sessions_max",
                    self.worker_sessions_max,
                    quotas.worker_sessions_max,
                ),
                watches_max: of("watches_max", self.watches_max, quotas.watches_max),
            }),
        }
    }
}

fn print_one<M: prost::Message>(
    format: Format,
    name: &str,
    reply: &M,
    namespace: Option<&v1::Namespace>,
) -> Outcome {
    let (Format::Table, Some(namespace)) = (format, namespace) else {
        return print_document(format, &document(name, reply), true);
    };
    let settings = namespace.settings.clone().unwrap_or_default();
    let (quotas, used) = (settings.quotas.unwrap_or_default(), namespace.r#use.unwrap_or_default());
    let kept = |span: Option<Duration>| {
        span.map_or_else(|| "default".to_owned(), |span| Span(input::of_span(span)).to_string())
    };
    let quota = |limit: Option<u64>| limit.map_or_else(|| "none".to_owned(), |limit| limit.to_string());
    out(&facts(&[
        ("namespace", namespace.name.clone()),
        ("description", settings.description),
        ("topics declared", if settings.topics_declared { "yes" } else { "no" }.to_owned()),
        ("open jobs", used.open_jobs.map_or_else(|| "not counted".to_owned(), |open| open.to_string())),
        ("worker sessions", used.worker_sessions.to_string()),
        ("watches", used.watches.to_string()),
        ("open jobs max", quota(quotas.open_jobs_max)),
        ("submits per second", quota(quotas.submits_per_second)),
        ("payload bytes per second", quota(quotas.payload_bytes_per_second)),
        ("worker sessions max", quota(quotas.worker_sessions_max)),
        ("watches max", quota(quotas.watches_max)),
        ("ended jobs kept", kept(settings.retention)),
        ("dead letters kept", kept(settings.dead_letter_retention)),
        ("revision", namespace.revision.to_string()),
    ]))
}

fn print_list(format: Format, all: &v1::ListNamespacesResponse) -> Outcome {
    if format != Format::Table {
        return print_document(format, &document("ListNamespacesResponse", all), true);
    }
    let mut rows = Rows::new(["NAMESPACE", "SESSIONS", "WATCHES", "REVISION", "DESCRIPTION"]);
    for one in &all.namespaces {
        let used = one.r#use.unwrap_or_default();
        rows.add([
            one.name.clone().into(),
            number(used.worker_sessions),
            number(used.watches),
            number(one.revision),
            one.settings.clone().unwrap_or_default().description.into(),
        ]);
    }
    out(&rows.text())
}
