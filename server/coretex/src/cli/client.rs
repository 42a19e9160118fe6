//! Options of every command that talks to a server.

use super::shown::Format;
use crate::outcome::{Failure, Outcome};
use coretex_sdk::{Client, DEFAULT_ADDR};
use std::path::PathBuf;

/// Where the server is, who asks, and how the answer is shown.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Client options")]
pub struct ClientArgs {
    /// Address of the server [env: CORETEX_ADDR] [default: http://127.0.0.1:7070]
    #[arg(long, global = true, value_name = "URL")]
    pub addr: Option<String>,
    /// Namespace to work in [env: CORETEX_NAMESPACE] [default: default]
    #[arg(long, global = true, value_name = "NAME")]
    pub namespace: Option<String>,
    /// API key; better given as CORETEX_API_KEY, which other users of this machine cannot see
    #[arg(long, global = true, value_name = "KEY", hide_short_help = true)]
    pub api_key: Option<String>,
    /// PEM file with the authorities to trust
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub tls_ca: Option<PathBuf>,
    /// PEM file with a client certificate
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with its key
    #[arg(long, global = true, value_name = "FILE", hide_short_help = true)]
    pub tls_key: Option<PathBuf>,
    /// How results are shown
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub output: Format,
}

impl ClientArgs {
    /// The first option of a client that was given, for commands that are none.
    pub fn given(&self) -> Option<&'static str> {
        let given = [
            (self.addr.is_some(), "--addr"),
            (self.namespace.is_some(), "--namespace"),
            (self.api_key.is_some(), "--api-key"),
            (self.tls_ca.is_some(), "--tls-ca"),
            (self.tls_cert.is_some(), "--tls-cert"),
            (self.tls_key.is_some(), "--tls-key"),
        ];
        given.into_iter().find(|(is_given, _)| *is_given).map(|(_, name)| name)
    }

    /// The address as given here or by the environment.
    pub fn address(&self) -> String {
        self.addr.clone().or_else(|| variable("CORETEX_ADDR")).unwrap_or_else(|| DEFAULT_ADDR.into())
    }

    /// The namespace as given here or by the environment.
    pub fn namespace(&self) -> String {
        self.namespace.clone().or_else(|| variable("CORETEX_NAMESPACE")).unwrap_or_else(|| "default".into())
    }

    /// The credential as given here or by the environment.
    pub fn api_key(&self) -> Option<String> {
        self.api_key.clone().or_else(|| variable("CORETEX_API_KEY"))
    }

    /// Options of a connection.
    pub fn builder(&self) -> Outcome<coretex_sdk::ClientBuilder> {
        let mut builder = Client::builder(self.address()).namespace(self.namespace());
        if let Some(key) = self.api_key() {
            builder = builder.api_key(key);
        }
        if let Some(ca) = &self.tls_ca {
            builder = builder.tls_ca(ca);
        }
        match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => builder = builder.tls_identity(cert, key),
            (None, None) => {}
            _ => return Err(Failure::Usage("--tls-cert and --tls-key go together".into())),
        }
        Ok(builder)
    }

    /// A connection to the server.
    pub async fn connect(&self) -> Outcome<Client> {
        Ok(self.builder()?.connect().await?)
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The id under which repeats of one call are one call. It tells the time, so that ids derived from it do too.
pub(super) fn request_id() -> String {
    uuid::Uuid::now_v7().to_string()
}
