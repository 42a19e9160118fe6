//! Tools of the end-to-end suites: the real binary as a process, a worker that speaks the wire by hand, a proxy that
//! breaks connections on purpose, and the line of evidence each suite leaves.

pub mod api;
pub mod evidence;
pub mod faults;
pub mod frames;
pub mod http1;
pub mod process;
pub mod raw_grpc;
pub mod raw_h2;
pub mod steady;
pub mod worker;

/// Says something to whoever watches the run.
pub fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Why a suite does not run here, loudly. Where evidence is asked for, not running is a failure.
pub fn skip(suite: &str, reason: &str) {
    assert!(std::env::var_os("CORETEX_EVIDENCE").is_none(), "{suite} must run here, but: {reason}");
    say(&format!("SKIP {suite}: {reason}"));
}
