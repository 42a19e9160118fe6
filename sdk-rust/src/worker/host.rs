//! The machine and the process, as Hello names them.

use crate::raw::pb;
use crate::time::stamp;
use std::time::SystemTime;

pub(crate) fn host() -> pb::HostInfo {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    pb::HostInfo {
        hostname: hostname(),
        pid: std::process::id(),
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        mem_bytes: memory(),
        started_at: Some(stamp(SystemTime::now())),
    }
}

pub(crate) fn sdk() -> pb::SdkInfo {
    pb::SdkInfo {
        name: env!("CARGO_PKG_NAME").into(),
        version: env!("CARGO_PKG_VERSION").into(),
        language: "rust".into(),
        runtime: "tokio".into(),
    }
}

pub(crate) fn hostname() -> String {
    let file = std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned());
    file.ok().filter(|name| !name.is_empty()).or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default()
}

/// Bytes of memory, 0 where it cannot be told.
fn memory() -> u64 {
    let Ok(text) = std::fs::read_to_string("/proc/meminfo") else { return 0 };
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1_024
}
