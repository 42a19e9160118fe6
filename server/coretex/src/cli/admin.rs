//! `coretex admin`: look after a server and its store.

mod audit;
mod keys;
mod namespaces;

use super::client::{ClientArgs, request_id};
use super::shown::{Format, document, line, out, print_document};
use super::table::{self, Rows, facts, number};
use crate::outcome::{Failure, Outcome, REFUSED};
use crate::units::Size;
use crate::wiring;
use coretex_sdk::ListRequest;
use coretex_sdk::raw::v1;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A backup copies the whole store.
const BACKUP_MAX: Duration = Duration::from_secs(6 * 3_600);

/// Findings shown to people.
const SHOWN_MAX: usize = 20;

/// Commands about a server and its store.
#[derive(Debug, clap::Subcommand)]
pub(super) enum AdminCommand {
    /// Check every record of a store that no server has open
    Fsck {
        /// Directory of the store, or file:PATH
        store: String,
    },
    /// Copy the store of a running server into a directory of its machine
    Backup {
        /// Absolute path on the server's machine; made if it is not there, must be empty
        directory: PathBuf,
    },
    /// Make a store from a backup
    Restore {
        /// Directory of the backup
        backup: PathBuf,
        /// Directory of the new store, or file:PATH; must not be there yet, or be empty
        store: String,
    },
    /// Show the 256 shards
    Shards {
        /// Show empty shards too
        #[arg(long)]
        all: bool,
    },
    /// Show what the server is, speaks and promises
    Info,
    /// Who did what, or was refused
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Tenants and their quotas
    #[command(subcommand)]
    Namespaces(namespaces::NamespacesCommand),
    /// API keys: kept by the server, or made for its settings
    #[command(subcommand)]
    Keys(keys::KeysCommand),
}

impl AdminCommand {
    /// Whether options of a client are a mistake.
    pub(super) fn is_serverless(&self) -> bool {
        matches!(self, AdminCommand::Keys(keys::KeysCommand::Offline(_)))
    }
}

/// Runs the command.
pub(super) async fn run(command: AdminCommand, options: &ClientArgs) -> Outcome {
    match command {
        AdminCommand::Fsck { store } => fsck(&directory(&store), options.output).await,
        AdminCommand::Backup { directory } => backup(directory, options).await,
        AdminCommand::Restore { backup, store } => restore(&backup, &directory(&store), options.output).await,
        AdminCommand::Shards { all } => shards(all, options).await,
        AdminCommand::Info => info(options).await,
        AdminCommand::Audit(command) => audit::run(command, options).await,
        AdminCommand::Namespaces(command) => namespaces::run(command, options).await,
        AdminCommand::Keys(command) => keys::run(command, options).await,
    }
}

fn directory(text: &str) -> PathBuf {
    PathBuf::from(text.strip_prefix("file:").unwrap_or(text))
}

async fn fsck(store: &Path, format: Format) -> Outcome {
    let checked = wiring::check_store(store)
        .await
        .map_err(|error| Failure::machine(format!("cannot check {}", store.display()), error))?;
    match format {
        Format::Table => {
            for problem in checked.problems.iter().take(SHOWN_MAX) {
                line(format!("damaged: {problem}"))?;
            }
            if checked.problems.len() > SHOWN_MAX {
                line("… `-o json` shows more")?;
            }
            let pairs: Vec<_> =
                checked.counts.iter().map(|(name, count)| (*name, count.to_string())).collect();
            out(&facts(&pairs))?;
            line(if checked.problems.is_empty() { "sound" } else { "NOT sound" })?;
        }
        format => {
            let counts: serde_json::Map<_, _> = checked
                .counts
                .iter()
                .map(|(name, count)| ((*name).replace(' ', "_"), (*count).into()))
                .collect();
            let report = serde_json::json!({
                "store": store.display().to_string(),
                "sound": checked.problems.is_empty(),
                "counts": counts,
                "problems": checked.problems,
            });
            print_document(format, &report, true)?;
        }
    }
    if checked.problems.is_empty() { Ok(()) } else { Err(Failure::Said(REFUSED)) }
}

async fn backup(directory: PathBuf, options: &ClientArgs) -> Outcome {
    if !directory.is_absolute() {
        return Err(Failure::Usage(format!(
            "{} is not an absolute path of the server's machine",
            directory.display()
        )));
    }
    let client = options.connect().await?;
    let mut request = coretex_sdk::raw::tonic::Request::new(v1::BackupStoreRequest {
        directory: directory.display().to_string(),
        request_id: request_id(),
    });
    request.set_timeout(BACKUP_MAX);
    let reply = client.raw().admin().backup_store(request).await?.into_inner();
    match options.output {
        Format::Table => line(format!("{}  {} jobs  {}", reply.directory, reply.jobs, Size(reply.bytes))),
        format => print_document(format, &document("BackupStoreResponse", &reply), true),
    }
}

async fn restore(backup: &Path, store: &Path, format: Format) -> Outcome {
    let doing = || format!("cannot restore {} into {}", backup.display(), store.display());
    let (bytes, jobs) =
        wiring::restore_store(backup, store).await.map_err(|error| Failure::machine(doing(), error))?;
    match format {
        Format::Table => line(format!("{}  {jobs} jobs  {}", store.display(), Size(bytes))),
        format => {
            let report =
                serde_json::json!({"store": store.display().to_string(), "jobs": jobs, "bytes": bytes});
            print_document(format, &report, true)
        }
    }
}

async fn shards(all: bool, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    if options.output != Format::Table {
        let reply = client.raw().admin().list_shards(v1::ListShardsRequest::default()).await?.into_inner();
        return print_document(options.output, &document("ListShardsResponse", &reply), true);
    }
    let page = client.list_shards(ListRequest::all().page_size(256)).await?;
    let mut rows = Rows::new(["SHARD", "STATE", "NODE", "EPOCH", "OPEN", "QUEUED", "LEASES", "SEQUENCE"]);
    let (total, open): (usize, u64) =
        (page.items.len(), page.items.iter().map(|shard| shard.open_jobs).sum());
    for shard in page.items.into_iter().filter(|shard| all || shard.open_jobs > 0) {
        rows.add([
            number(shard.shard),
            shard.state.as_str().into(),
            shard.node_id.into(),
            number(shard.epoch),
            number(shard.open_jobs),
            number(shard.queued_jobs),
            number(shard.leases),
            number(shard.sequence),
        ]);
    }
    if !rows.is_empty() {
        out(&rows.text())?;
    }
    line(format!("{total} shards, {open} open jobs"))
}

async fn info(options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    if options.output != Format::Table {
        let reply = client.raw().admin().get_server_info(v1::GetServerInfoRequest {}).await?.into_inner();
        return print_document(options.output, &document("GetServerInfoResponse", &reply), true);
    }
    let server = client.server_info().await?;
    let used = if server.store_used_bytes > 0 {
        format!(", {} used", Size(server.store_used_bytes))
    } else {
        String::new()
    };
    out(&facts(&[
        ("version", format!("{} {}", server.version, server.commit).trim().to_owned()),
        ("profile", server.profile),
        ("listen", server.listen),
        ("ready", if server.ready { "yes" } else { "no" }.to_owned()),
        ("node", server.node_id),
        ("installation", server.cluster_id),
        ("store", format!("{}, yes means {}{used}", server.store, server.ack_level)),
        ("protocol", format!("{} to {}", server.protocol.0, server.protocol.1)),
        ("features", server.features.join(", ")),
        ("payload max", Size(server.payload_max_bytes).to_string()),
        ("message max", Size(server.message_max_bytes).to_string()),
        ("batch max", format!("{} jobs", server.submit_batch_max)),
        ("up since", table::time(server.start_time)),
    ]))
}
