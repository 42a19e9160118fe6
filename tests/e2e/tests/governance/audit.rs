//! One byte of the audit is changed on the disk, and that is seen.

use crate::{EVIDENCE, cli, count, start};
use coretex_e2e::process::{coretex, fsck};
use std::fs;
use std::path::Path;

/// Changes that are made, each of which leaves one record.
const RECORDS: usize = 5;

/// Exit code and all that was said.
fn verify(store: &Path) -> (Option<i32>, String) {
    let output = coretex().args(["admin", "audit", "verify", "--store"]).arg(store).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn places(bytes: &[u8], text: &[u8]) -> Vec<usize> {
    bytes.windows(text.len()).enumerate().filter(|(_, found)| *found == text).map(|(at, _)| at).collect()
}

fn change(path: &Path, at: usize, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, at as u64).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_changed_byte_of_a_record_is_found() {
    let (mut server, _) = start(&[]).await;
    let addr = server.url();
    for n in 1..=RECORDS {
        let set = format!("n={n}");
        let (code, _, why) = cli(&addr, &["config", "set", "team/a", "--set", &set]).await;
        assert_eq!(code, 0, "{why}");
    }
    assert_eq!(cli(&addr, &["admin", "audit", "verify"]).await.0, 0);
    server.stop(std::time::Duration::from_secs(30)).await;
    let store = server.data();
    let (code, said) = verify(&store);
    assert!(code == Some(0) && said.contains("sound"), "{said}");

    // Each record lies in the index, from where it is read, and in the log, from where a store is recovered.
    let index = store.join("index.db");
    let bytes = fs::read(&index).unwrap();
    let found = places(&bytes, b"ConfigService/SetConfig");
    let is_seen = |at: &&usize| {
        change(&index, **at, b"D");
        let (code, _) = verify(&store);
        change(&index, **at, b"C");
        code == Some(1)
    };
    // Pages that were written anew leave copies behind that belong to nothing.
    let seen = found.iter().filter(is_seen).count();
    assert_eq!(seen, RECORDS, "of {} places", found.len());
    EVIDENCE.add("bytes_found", seen as u64);
    assert_eq!(verify(&store).0, Some(0), "as it was");
    let log = store.join("log/0000000000000001.log");
    let at = places(&fs::read(&log).unwrap(), b"ConfigService/SetConfig")[2];
    change(&log, at, b"D");
    let output = fsck(&store);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    EVIDENCE.add("bytes_found", 1);
    change(&log, at, b"C");
    assert!(fsck(&store).status.success());
    count();
}
