//! Says when the binary was built, so that a server can tell a clock that is wrong. `SOURCE_DATE_EPOCH` wins, as
//! reproducible builds have it.

use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse::<u64>().ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default();
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo::rustc-env=BUILT_AT_SECONDS={}", given.unwrap_or(now));
}
