//! Section `steps`: which built-in steps are done, how many at a time, and whom they may call.

use super::Profile;
use super::layers::Layers;
use super::refusal::Refusal;
use coretex_domain::nearest::hint;
use coretex_steps::http::Allow;
use coretex_steps::{STEPS, jq};
use std::collections::BTreeSet;

/// What the step library may do.
#[derive(Clone, Debug)]
pub struct Steps {
    pub enabled: BTreeSet<String>,
    pub slots: u32,
    pub http_allow: Vec<Allow>,
    /// Authorities that `http` trusts besides those of this machine, PEM.
    pub http_ca: Option<Vec<u8>>,
    /// How the filters of `transform` are run. No setting: this program, unless a test says otherwise.
    pub jq: jq::Settings,
}

const SLOTS_MAX: u64 = 1_024;
/// Has effects outside of the server, so that whoever runs one for others enables it by name.
const REACHING_OUT: &str = "http";

impl Steps {
    pub fn build(profile: Profile, layers: &mut Layers) -> Option<Steps> {
        let enabled = enabled(profile, layers);
        let slots = layers.number("steps.slots", 1, SLOTS_MAX);
        let http_allow = allow(layers);
        let http_ca = authorities(layers);
        Some(Steps {
            enabled: enabled?,
            slots: u32::try_from(slots?).ok()?,
            http_allow: http_allow?,
            http_ca: http_ca?,
            jq: jq::Settings::default(),
        })
    }
}

fn enabled(profile: Profile, layers: &mut Layers) -> Option<BTreeSet<String>> {
    if layers.value("steps.enabled").is_none() {
        let by_default = |step: &&&str| profile == Profile::Dev || **step != REACHING_OUT;
        return Some(STEPS.iter().filter(by_default).map(ToString::to_string).collect());
    }
    let named = layers.list("steps.enabled");
    let unknown = named.iter().find(|name| !STEPS.contains(&name.as_str()));
    if let Some(name) = unknown {
        let hint = hint(name, STEPS.iter().copied());
        layers.refuse_value(
            "steps.enabled",
            format!("`{name}` is no step; there are {}{hint}", STEPS.join(", ")),
        );
        return None;
    }
    Some(named.into_iter().collect())
}

fn allow(layers: &mut Layers) -> Option<Vec<Allow>> {
    let read: Result<Vec<Allow>, String> =
        layers.list("steps.http.allow").iter().map(|item| item.parse()).collect();
    read.map_err(|told| {
        let forms = "write HOST, HOST:PORT, ADDRESS/BITS or :PORT";
        layers.refuse_value("steps.http.allow", format!("{told}; {forms}"));
    })
    .ok()
}

/// The outer `None` says that it is given and cannot be used.
fn authorities(layers: &mut Layers) -> Option<Option<Vec<u8>>> {
    let Some(path) = layers.text("steps.http.ca") else { return Some(None) };
    let read = std::fs::read(&path).map_err(|error| format!("cannot read {path}: {error}"));
    match read.and_then(|pem| coretex_steps::http::check_authorities(&pem).map(|()| pem)) {
        Ok(pem) => Some(Some(pem)),
        Err(message) => {
            let mend = "name a PEM file with the authorities of the servers that steps call";
            layers.refuse_at("steps.http.ca", Refusal::new("R4", message, mend));
            None
        }
    }
}
