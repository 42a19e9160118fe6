//! `coretex admin keys`: API keys that a server keeps. Those of settings files are made by `cli/keys.rs`, without a server.

use super::super::client::{ClientArgs, request_id};
use super::super::input;
use super::super::keys::{self, KeysCommand as Offline};
use super::super::shown::{Format, document, line, note, out, print_document};
use super::super::table::{self, Rows, facts};
use crate::outcome::{Failure, Outcome};
use crate::units::Span;
use coretex_contract::Timestamp;
use coretex_domain::access::Role;
use coretex_domain::names::check_namespace;
use coretex_sdk::raw::v1;

/// Commands about API keys.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key that the server keeps, and show it once
    Create(CreateArgs),
    /// List the keys that the server keeps
    List {
        /// Only those that match, for example 'state = ACTIVE AND role = "admin"'
        #[arg(long)]
        filter: Option<String>,
        /// Only those whose names begin so
        #[arg(long, value_name = "TEXT")]
        name_prefix: Option<String>,
    },
    /// Show what a key is, never the key
    Get {
        /// Its public part: the eight characters after ctx_
        key_id: String,
    },
    /// Give a key a new secret, and show the new key once
    Rotate {
        /// Its public part: the eight characters after ctx_
        key_id: String,
        /// How long the key before stays valid, up to 7d [default: 24h]
        #[arg(long, value_name = "SPAN")]
        overlap: Option<Span>,
    },
    /// End a key for ever, and its streams
    Revoke {
        /// Its public part: the eight characters after ctx_
        key_id: String,
    },
    #[command(flatten)]
    Offline(Offline),
}

/// A key to be made.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// What it is for
    #[arg(long)]
    name: String,
    /// Role, may be repeated: viewer, submitter, operator, worker, policy-admin, admin, auditor
    #[arg(long = "role", required = true, value_parser = Role::parse)]
    roles: Vec<Role>,
    /// Namespace it may use, may be repeated; left out: the one of --namespace if that is given, else all
    #[arg(long = "only", value_name = "NAMESPACE", value_parser = namespace)]
    namespaces: Vec<String>,
    /// How long it lasts, for example 90d; left out: for ever
    #[arg(long, value_name = "SPAN", conflicts_with = "expires")]
    expires_in: Option<Span>,
    /// When it ends, for example 2027-01-31T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = input::time)]
    expires: Option<jiff::Timestamp>,
}

fn namespace(text: &str) -> Result<String, String> {
    check_namespace(text).map(|()| text.to_owned())
}

/// Runs the command.
pub(crate) async fn run(command: KeysCommand, options: &ClientArgs) -> Outcome {
    match command {
        KeysCommand::Offline(command) => keys::run(command, options.output),
        KeysCommand::Create(args) => create(args, options).await,
        KeysCommand::List { filter, name_prefix } => list(filter, name_prefix, options).await,
        KeysCommand::Get { key_id } => {
            let request = v1::GetApiKeyRequest { key_id };
            let reply = options.connect().await?.raw().auth().get_api_key(request).await?.into_inner();
            print_one(options.output, "GetApiKeyResponse", &reply, reply.api_key.as_ref())
        }
        KeysCommand::Rotate { key_id, overlap } => {
            let overlap = overlap.map(|Span(span)| input::span(span));
            let request = v1::RotateApiKeyRequest { key_id, overlap, request_id: request_id() };
            let reply = options.connect().await?.raw().auth().rotate_api_key(request).await?.into_inner();
            print_secret(options.output, &reply.secret)?;
            print_one(options.output, "RotateApiKeyResponse", &reply, reply.api_key.as_ref())
        }
        KeysCommand::Revoke { key_id } => {
            let request = v1::RevokeApiKeyRequest { key_id, request_id: request_id() };
            let reply = options.connect().await?.raw().auth().revoke_api_key(request).await?.into_inner();
            print_one(options.output, "RevokeApiKeyResponse", &reply, reply.api_key.as_ref())
        }
    }
}

/// The end of a key, from a span or a time.
fn end_of(args: &CreateArgs) -> Outcome<Option<Timestamp>> {
    let Some(Span(span)) = args.expires_in else { return Ok(args.expires.map(input::stamp)) };
    let end = jiff::Timestamp::now().checked_add(span);
    end.map(|end| Some(input::stamp(end))).map_err(|_| Failure::Usage("--expires-in is too long".into()))
}

async fn create(args: CreateArgs, options: &ClientArgs) -> Outcome {
    let expire_time = end_of(&args)?;
    // Who names a namespace does not mean a key for all of them.
    let namespaces = match args.namespaces.is_empty() {
        true => options.namespace.iter().cloned().collect(),
        false => args.namespaces,
    };
    let request = v1::CreateApiKeyRequest {
        name: args.name,
        roles: args.roles.into_iter().map(|role| role.name().to_owned()).collect(),
        namespaces,
        expire_time,
        request_id: request_id(),
    };
    let reply = options.connect().await?.raw().auth().create_api_key(request).await?.into_inner();
    print_secret(options.output, &reply.secret)?;
    print_one(options.output, "CreateApiKeyResponse", &reply, reply.api_key.as_ref())
}

async fn list(filter: Option<String>, name_prefix: Option<String>, options: &ClientArgs) -> Outcome {
    let (filter, name_prefix) = (filter.unwrap_or_default(), name_prefix.unwrap_or_default());
    let mut client = options.connect().await?.raw().auth();
    let mut all = v1::ListApiKeysResponse::default();
    loop {
        let request = v1::ListApiKeysRequest {
            filter: filter.clone(),
            name_prefix: name_prefix.clone(),
            page_size: 1_000,
            page_token: std::mem::take(&mut all.next_page_token),
            ..Default::default()
        };
        let page = client.list_api_keys(request).await?.into_inner();
        all.api_keys.extend(page.api_keys);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            return print_list(options.output, &all);
        }
    }
}

/// The key, once. For programs it is in the document.
fn print_secret(format: Format, secret: &str) -> Outcome {
    if format != Format::Table {
        return Ok(());
    }
    line(secret)?;
    note("this is the key; it is shown this once and cannot be read again. Keep it like a password.");
    Ok(())
}

fn state(key: &v1::ApiKey) -> &'static str {
    match key.state() {
        v1::ApiKeyState::Active => "ACTIVE",
        v1::ApiKeyState::Expired => "EXPIRED",
        v1::ApiKeyState::Revoked => "REVOKED",
        v1::ApiKeyState::Unspecified => "",
    }
}

fn time(stamp: Option<Timestamp>) -> String {
    table::time(stamp.and_then(input::of_stamp))
}

fn names(names: &[String]) -> String {
    if names.is_empty() { "all".to_owned() } else { names.join(", ") }
}

fn print_one<M: prost::Message>(format: Format, name: &str, reply: &M, key: Option<&v1::ApiKey>) -> Outcome {
    let (Format::Table, Some(key)) = (format, key) else {
        return print_document(format, &document(name, reply), true);
    };
    out(&facts(&[
        ("key", key.key_id.clone()),
        ("name", key.name.clone()),
        ("identity", key.identity.clone()),
        ("state", state(key).to_owned()),
        ("roles", key.roles.join(", ")),
        ("namespaces", names(&key.namespaces)),
        ("made", time(key.create_time)),
        ("made by", key.created_by.clone()),
        ("expires", time(key.expire_time)),
        ("last used", time(key.last_used_time)),
        ("rotated", time(key.rotate_time)),
        ("key before until", time(key.overlap_end_time)),
        ("revoked", time(key.revoke_time)),
        ("revoked by", key.revoked_by.clone()),
    ]))
}

fn print_list(format: Format, all: &v1::ListApiKeysResponse) -> Outcome {
    if format != Format::Table {
        return print_document(format, &document("ListApiKeysResponse", all), true);
    }
    let mut rows = Rows::new(["KEY", "NAME", "STATE", "ROLES", "NAMESPACES", "EXPIRES", "LAST USED"]);
    for key in &all.api_keys {
        rows.add([
            key.key_id.clone().into(),
            key.name.clone().into(),
            state(key).into(),
            key.roles.join(",").into(),
            names(&key.namespaces).into(),
            time(key.expire_time).into(),
            time(key.last_used_time).into(),
        ]);
    }
    out(&rows.text())
}
