//! `coretex demo`: a server, real workers and a real load, every result checked by the demo itself.

use coretex_e2e::evidence::Evidence;
use coretex_e2e::process::coretex;
use coretex_e2e::say;
use std::fs;
use std::time::{Duration, Instant};

static EVIDENCE: Evidence = Evidence::of("demo");

#[test]
fn the_demo_ends_well_on_a_small_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    for n in 0..12 {
        let text = format!("file {n}\n{}\n", "some words to count and to hash ".repeat(n * 7 + 1));
        fs::write(folder.path().join(format!("note-{n}.txt")), text).expect("a small file");
    }
    let begin = Instant::now();
    let mut command = coretex();
    command.arg("demo").arg(folder.path());
    let output = command.output().expect("the demo runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "it ended with {}:\n{text}\n{errors}", output.status);
    assert!(!errors.contains("panicked"), "{errors}");
    assert!(!text.trim().is_empty(), "the demo said nothing");
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(300), "the demo took {took:?}");
    say(&format!("demo: done in {took:?}"));
    EVIDENCE.add("demos", 1);
    EVIDENCE.max("seconds", took.as_secs());
}
