//! Bad input, row by row of the table in the design: each gets its code, its reason and the names of the fields at
//! fault; nothing is INTERNAL or UNKNOWN; afterwards the server is alive and has kept nothing of it.

mod calls;
mod letters;
mod process;
mod submits;
mod wire;
mod workers;

use coretex_e2e::api::{Api, Refused};
use coretex_e2e::evidence::Evidence;
use coretex_e2e::process::{Server, Setup};
use tonic::{Code, Status};

static EVIDENCE: Evidence = Evidence::of("badinput");

/// What a refusal must say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) code: Code,
    /// One of these. Empty: any reason that is named.
    pub(crate) reasons: &'static [&'static str],
    /// A part of a field path or of the message.
    pub(crate) names: &'static str,
}

/// INVALID_ARGUMENT `INVALID_FIELD` that names this field.
pub(crate) const fn field(names: &'static str) -> Expected {
    Expected { code: Code::InvalidArgument, reasons: &["INVALID_FIELD"], names }
}

pub(crate) const fn refusal(code: Code, reason: &'static [&'static str]) -> Expected {
    Expected { code, reasons: reason, names: "" }
}

/// Checks a refusal against its row.
pub(crate) fn check(row: u32, what: &str, status: &Status, expected: Expected) {
    let refused = Refused::of(status);
    let place = format!("row {row}, {what}: {refused:#?}");
    assert!(!matches!(refused.code, Code::Internal | Code::Unknown | Code::Ok), "{place}");
    assert_eq!(refused.code, expected.code, "{place}");
    assert!(!refused.reason.is_empty(), "no reason: {place}");
    let is_named = expected.reasons.is_empty() || expected.reasons.contains(&refused.reason.as_str());
    assert!(is_named, "not {:?}: {place}", expected.reasons);
    let names = expected.names;
    let is_pointed_at = refused.fields.iter().any(|f| f.contains(names)) || refused.message.contains(names);
    assert!(is_pointed_at, "{names} is not named: {place}");
    assert!(refused.message.len() <= 2_048, "the message echoes too much: {place}");
    EVIDENCE.add("cases", 1);
}

/// A server whose state must be the same after the bad input.
pub(crate) struct Target {
    pub(crate) server: Server,
    pub(crate) api: Api,
    jobs: u64,
}

impl Target {
    pub(crate) async fn start() -> Target {
        Target::with(Setup::memory()).await
    }

    pub(crate) async fn with(setup: Setup) -> Target {
        let server = Server::start(setup).await;
        let api = Api::to(&server.url());
        Target { server, api, jobs: 0 }
    }

    /// From here on the number of jobs must not change.
    pub(crate) async fn mark(&mut self) {
        self.jobs = self.api.count("").await;
    }

    /// The server lives, answers, and has no job more than at the mark. Counts the row.
    pub(crate) async fn unharmed(&mut self, rows: u64) {
        assert!(self.server.is_alive(), "the server has gone");
        assert_eq!(self.api.count("").await, self.jobs, "something was stored");
        EVIDENCE.add("rows", rows);
    }
}
