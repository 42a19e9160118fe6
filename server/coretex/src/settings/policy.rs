//! Section `policy`: the bundle that judges every job, read and checked before anybody is judged.

use super::Profile;
use super::layers::Layers;
use super::refusal::Refusal;
use crate::policy_file::PolicyFile;
use coretex_domain::policy::Verdict;
use coretex_policy::{Bundle, set};
use std::fmt;
use std::path::PathBuf;

/// Who judges.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Absent: whatever was applied, else the built-in policy.
    pub file: Option<PolicyFile>,
    /// A kernel in another process, in place of everything here.
    pub kernel: Option<Kernel>,
}

/// Where a policy kernel is.
#[derive(Clone)]
pub struct Kernel {
    pub url: String,
    /// Shown to it as an API key.
    pub key: Option<String>,
    /// Authorities to trust with `https`, as PEM.
    pub ca: Option<Vec<u8>>,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("url", &self.url).finish_non_exhaustive()
    }
}

const MEND: &str =
    "`coretex policy check FILE` tells every mistake with its line; docs/guide/policy.md has the format";

impl Policy {
    pub fn build(layers: &mut Layers) -> Option<Policy> {
        let kernel = Kernel::build(layers)?;
        let Some(path) = layers.text("policy.file") else { return Some(Policy { file: None, kernel }) };
        if kernel.is_some() {
            let message = "policy.file and policy.kernel are both given; one of them judges";
            let mend = "give the file to the kernel: `coretex safety serve --set policy.file=FILE`";
            layers.refuse_at("policy.file", Refusal::new("R10", message, mend));
            return None;
        }
        let refuse = |layers: &mut Layers, message: String| {
            layers.refuse_at("policy.file", Refusal::new("R10", message, MEND));
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                refuse(layers, format!("cannot read {path}: {error}"));
                return None;
            }
        };
        let bundle = match Bundle::parse(&text) {
            Ok(bundle) => bundle,
            Err(problems) => {
                refuse(layers, format!("{path} cannot be used: {}", one_line(&problems.to_string())));
                return None;
            }
        };
        if &*bundle.name != set::DEFAULT && bundle.default == Verdict::Deny {
            let told =
                "only the policy named default decides by its default; name it so, or write `default: allow`";
            refuse(layers, format!("{path} cannot be used: {told}"));
            return None;
        }
        Some(Policy { file: Some(PolicyFile { path: PathBuf::from(path), yaml: text, bundle }), kernel })
    }

    /// A server for others does not allow everything.
    pub fn validate(&self, profile: Profile, layers: &mut Layers) {
        if profile == Profile::Production && self.kernel.as_ref().is_some_and(Kernel::is_open_to_others) {
            let message = "the link to the policy kernel is not encrypted";
            let mend = "use https://, with policy.kernel_ca for a certificate of your own authority";
            layers.refuse_at("policy.kernel", Refusal::new("R9", message, mend));
        }
        if profile == Profile::Production && self.file.as_ref().is_some_and(|file| file.bundle.allows_all()) {
            let message = "the bundle allows everything";
            let mend = "write a rule that denies, or leave policy.file out to keep the built-in policy";
            layers.refuse_at("policy.file", Refusal::new("R10", message, mend));
        }
    }
}

// === impl Kernel ===

impl Kernel {
    /// The outer `None` says that it is given and cannot be used.
    fn build(layers: &mut Layers) -> Option<Option<Kernel>> {
        let Some(url) = layers.text("policy.kernel") else { return Some(None) };
        let key = layers.text("policy.kernel_key");
        let ca = match layers.text("policy.kernel_ca") {
            None => None,
            Some(path) => match std::fs::read(&path) {
                Ok(pem) => Some(pem),
                Err(error) => {
                    let message = format!("cannot read {path}: {error}");
                    let mend = "name a PEM file with the authorities of the kernel's certificate";
                    layers.refuse_at("policy.kernel_ca", Refusal::new("R4", message, mend));
                    return None;
                }
            },
        };
        let kernel = Kernel { url, key, ca };
        let checked =
            coretex_gateway::KernelClient::check(&kernel.url, kernel.key.as_deref(), kernel.ca.as_deref());
        if let Err(message) = checked {
            let mend = "write it as http://HOST:PORT or https://HOST:PORT";
            layers.refuse_at("policy.kernel", Refusal::new("R10", message, mend));
            return None;
        }
        Some(Some(kernel))
    }

    /// Connects when it is first asked.
    pub fn client(&self) -> Result<coretex_gateway::KernelClient, String> {
        coretex_gateway::KernelClient::new(&self.url, self.key.as_deref(), self.ca.as_deref())
    }

    fn is_open_to_others(&self) -> bool {
        let host = self.url.strip_prefix("http://").and_then(|rest| rest.split(['/', '?']).next());
        let name = host.map(|host| host.rsplit_once(':').map_or(host, |(name, _)| name));
        name.is_some_and(|name| !matches!(name, "localhost" | "127.0.0.1" | "[::1]"))
    }
}

fn one_line(problems: &str) -> String {
    problems.lines().collect::<Vec<_>>().join("; ")
}
