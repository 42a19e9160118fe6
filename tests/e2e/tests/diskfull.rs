//! A disk that runs full under a live server, on a small tmpfs made for the purpose: submits are refused before any
//! yes, reading and cancelling go on, and once there is room again so does everything, without a restart.

use coretex_contract::v1 as pb;
use coretex_contract::v1::JobState;
use coretex_e2e::api::{Api, Refused, spec};
use coretex_e2e::evidence::Evidence;
use coretex_e2e::frames::{self, LANE};
use coretex_e2e::process::{Server, Setup, Store};
use coretex_e2e::worker::Worker;
use coretex_e2e::{say, skip};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tonic::Code;

static EVIDENCE: Evidence = Evidence::of("diskfull");

/// Room for the log segments a store keeps, for its index of what they hold, and for that index being rewritten.
const DISK_MIB: u64 = 768;
/// The promise is 5 s; a test allows ten times as much and prints what it took.
const RECOVERY_GUARD: Duration = Duration::from_secs(50);
const LONG: Duration = Duration::from_secs(30);

/// A small disk of its own.
struct Disk {
    folder: TempDir,
}

impl Disk {
    fn mounted(test: &str) -> Option<Disk> {
        let folder = tempfile::tempdir().expect("a folder");
        let size = std::ffi::CString::new(format!("size={DISK_MIB}m,mode=700")).expect("no zero in it");
        match mount("tmpfs", folder.path(), "tmpfs", MountFlags::NODEV, size.as_c_str()) {
            Ok(()) => Some(Disk { folder }),
            Err(error) => {
                skip(test, &format!("no tmpfs can be mounted here: {error}"));
                None
            }
        }
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// Takes all the room that is left.
    fn fill(&self) -> PathBuf {
        let path = self.folder.path().join("ballast");
        let mut file = File::options().create(true).append(true).open(&path).expect("a ballast file");
        for size in [1 << 20, 4 << 10, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = unmount(self.folder.path(), UnmountFlags::DETACH);
    }
}

fn large(topic: &str) -> pb::JobSpec {
    let payload = Some(pb::Payload::data("application/octet-stream", vec![7; 512 << 10]));
    pb::JobSpec { payload, ..spec(topic) }
}

/// Submits until it is refused; the jobs that were accepted, and the refusal.
async fn submit_until_refused(api: &Api, topic: &str) -> (Vec<String>, Refused) {
    let mut accepted = Vec::new();
    for _ in 0..4 * DISK_MIB {
        match api.try_submit(large(topic)).await {
            Ok(reply) => accepted.push(reply.job.expect("a job").job_id),
            Err(status) => return (accepted, Refused::of(&status)),
        }
    }
    panic!("{} jobs of half a mebibyte fit on {DISK_MIB} MiB", accepted.len());
}

/// Waits until submits are taken again; how long it took.
async fn accepts_again(api: &Api, topic: &str) -> Duration {
    let begin = Instant::now();
    loop {
        match api.try_submit(spec(topic)).await {
            Ok(_) => return begin.elapsed(),
            Err(status) => {
                let refused = Refused::of(&status);
                let is_expected = ["DISK_FULL", "STORE_FULL"].contains(&refused.reason.as_str())
                    || refused.code == Code::Unavailable;
                assert!(is_expected, "{refused:?}");
                assert!(begin.elapsed() < RECOVERY_GUARD, "still refused: {refused:?}");
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn assert_full(refused: &Refused) {
    assert_eq!(refused.code, Code::ResourceExhausted, "{refused:?}");
    assert!(["DISK_FULL", "STORE_FULL"].contains(&refused.reason.as_str()), "{refused:?}");
    assert!(refused.retry_after.is_some(), "no hint when to try again: {refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_before_the_yes_and_heals_without_a_restart() {
    let Some(disk) = Disk::mounted("diskfull") else { return };
    let mut server = Server::start(Setup::on(Store::At(disk.store()))).await;
    let api = Api::to(&server.url());
    let mut worker =
        Worker::join(&api, frames::hello("full", &["job.full"], 2, Duration::from_secs(60))).await;
    worker.credit(LANE, 1);
    let running = api.submit(spec("job.full")).await;
    let held = worker.assignments(1).await;
    worker.start(&held).await;
    let ballast = disk.fill();
    let (mut accepted, refused) = submit_until_refused(&api, "job.bulk").await;
    assert_full(&refused);
    say(&format!("diskfull: {} submits, then {}", accepted.len(), refused.reason));
    // What was said yes to is there, and more is refused in the same way.
    for id in &accepted {
        assert_eq!(api.state(id).await, JobState::Scheduled, "{id}");
    }
    // What was freed meanwhile is taken as well: the disk is full for good.
    disk.fill();
    let (more, again) = submit_until_refused(&api, "job.bulk").await;
    accepted.extend(more);
    assert_full(&again);
    assert_eq!(api.count("topic = job.bulk").await, accepted.len() as u64, "a refused job is there");
    // Ending and cancelling need little room, and have it.
    worker.finish(&held).await;
    assert_eq!(api.ended(&running, LONG).await.state(), JobState::Succeeded);
    if let Some(victim) = accepted.first() {
        let job = api.cancel(victim).await.expect("a cancel is taken while the disk is full");
        assert_eq!(job.state(), JobState::Cancelled);
    }
    assert!(server.is_alive());
    let freed = fs::metadata(&ballast).expect("the ballast is there").len() >> 20;
    fs::remove_file(&ballast).expect("the ballast goes");
    say(&format!("diskfull: {freed} MiB are free again"));
    let healed = accepts_again(&api, "job.after").await;
    say(&format!("diskfull: accepts again after {healed:?}"));
    EVIDENCE.add("accepted_then_refused", accepted.len() as u64);
    EVIDENCE.max("heals_ms", healed.as_millis() as u64);
    server.kill();
    assert!(server.fsck().status.success(), "{:?}", server.fsck());
    server.restart().await;
    for id in accepted.iter().skip(1) {
        assert_eq!(api.state(id).await, JobState::Scheduled, "{id} after the restart");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_reaches_its_own_limit_says_store_full() {
    let setup = Setup::file().env("CORETEX_STORE_MAX_BYTES", "300MiB");
    let server = Server::start(setup).await;
    let api = Api::to(&server.url());
    let (accepted, refused) = submit_until_refused(&api, "job.limit").await;
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::ResourceExhausted, "STORE_FULL"),
        "{refused:?}"
    );
    assert!(!accepted.is_empty());
    assert!(api.cancel(&accepted[0]).await.is_ok(), "cancel is refused at the limit");
    assert_eq!(api.count("topic = job.limit").await, accepted.len() as u64);
    EVIDENCE.add("store_full_after", accepted.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_a_full_disk_says_what_is_wrong_or_serves_reads() {
    let Some(disk) = Disk::mounted("diskfull: start") else { return };
    let mut server = Server::start(Setup::on(Store::At(disk.store()))).await;
    let api = Api::to(&server.url());
    let id = api.submit(spec("job.kept")).await;
    server.kill();
    let ballast = disk.fill();
    match Server::attempt(Setup::on(Store::At(disk.store())), LONG).await {
        Ok(mut started) => {
            let api = Api::to(&started.url());
            assert_eq!(api.state(&id).await, JobState::Scheduled);
            assert_full(&submit_until_refused(&api, "job.bulk").await.1);
            started.kill();
        }
        Err((status, log)) => {
            assert!(!status.success());
            assert!(says_disk_full(&log), "it ended with {status} and said:\n{log}");
            assert!(!log.contains("panicked"), "{log}");
        }
    }
    fresh_start_is_refused_clearly(disk.folder.path()).await;
    fs::remove_file(ballast).expect("the ballast goes");
    server.restart().await;
    assert_eq!(api.state(&id).await, JobState::Scheduled);
    EVIDENCE.add("starts_when_full", 2);
}

/// A new store has nowhere to be.
async fn fresh_start_is_refused_clearly(disk: &Path) {
    match Server::attempt(Setup::on(Store::At(disk.join("fresh"))), LONG).await {
        Ok(_) => panic!("a new store was made on a full disk"),
        Err((status, log)) => {
            assert!(!status.success());
            assert!(says_disk_full(&log), "it ended with {status} and said:\n{log}");
        }
    }
}

fn says_disk_full(log: &str) -> bool {
    let log = log.to_lowercase();
    ["disk is full", "no space left", "disk full"].iter().any(|words| log.contains(words))
}
