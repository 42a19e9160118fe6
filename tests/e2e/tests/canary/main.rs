//! One secret through every feature of the real binary: the handler gets it, gives it away in every way there is, and it is in
//! nothing that is stored, shown or logged.

mod cast;
mod search;

use cast::{Seen, serve};
use coretex_contract::v1 as pb;
use coretex_e2e::api::{Api, spec};
use coretex_e2e::evidence::Evidence;
use coretex_e2e::process::{Server, Setup, coretex};
use coretex_e2e::{http1, say};
use coretex_sdk::JobState;
use prost::Message as _;
use search::Canary;
use serde_json::json;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tonic::Status;

static EVIDENCE: Evidence = Evidence::of("canary");

const PATIENCE: Duration = Duration::from_secs(60);
const HOWS: [&str; 6] = ["result", "failure", "cut", "panic", "progress", "refused"];
const RULES: &str = "
name: canary
default: allow
rules:
  - { id: look, match: { topics: [canary.review] }, verdict: require_approval, reason: look, approval: { approvers: [oncall], expires: 1h } }
";

/// Everything that came out of the server, by what it is.
#[derive(Default)]
struct Found {
    all: Vec<(String, Vec<u8>)>,
}

impl Found {
    fn add(&mut self, name: impl Into<String>, text: impl Into<Vec<u8>>) {
        self.all.push((name.into(), text.into()));
    }

    /// A refusal, with its details.
    fn refused<T: std::fmt::Debug>(&mut self, name: &str, answer: Result<T, Status>) {
        let status = answer.expect_err(name);
        self.add(name, [status.message().as_bytes(), status.details()].concat());
    }

    fn cli(&mut self, server: &Server, args: &[&str]) -> String {
        let output = coretex().args(args).args(["--addr", &server.url()]).output().expect("it runs");
        let text = [output.stdout.as_slice(), &output.stderr].concat();
        self.add(args.join(" "), text.clone());
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(output.status.success(), "{args:?}: {text}");
        text
    }

    fn files(&mut self, folder: &Path) -> usize {
        let entries =
            std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        entries
            .map(|path| match path.is_dir() {
                true => self.files(&path),
                false => {
                    self.add(path.display().to_string(), std::fs::read(&path).expect("a file"));
                    1
                }
            })
            .sum()
    }

    fn with(&self, text: &str) -> Vec<&str> {
        let is_in = |all: &[u8]| memchr::memmem::find(all, text.as_bytes()).is_some();
        self.all.iter().filter(|(_, all)| is_in(all)).map(|(name, _)| name.as_str()).collect()
    }
}

struct Stage {
    canary: Canary,
    marker: String,
    folder: tempfile::TempDir,
    server: Server,
    client: coretex_sdk::Client,
}

impl Stage {
    async fn new() -> Stage {
        let (canary, folder) = (Canary::new(), tempfile::tempdir().expect("a folder"));
        let path = |name: &str| folder.path().join(name).display().to_string();
        let quoted = serde_json::to_string(&canary.value).expect("a text");
        let secrets = format!("default:\n  CANARY: {quoted}\nother:\n  OTHER: {quoted}\n");
        std::fs::write(path("secrets.yaml"), secrets).expect("written");
        std::fs::set_permissions(path("secrets.yaml"), std::fs::Permissions::from_mode(0o600)).expect("mode");
        std::fs::write(path("rules.yaml"), RULES).expect("written");
        let setup = Setup::file().env("CORETEX_LOG", "debug").env("CORETEX_LOG_FORMAT", "json");
        let setup = setup.env("CORETEX_SECRETS_FILE", path("secrets.yaml"));
        let server = Server::start(setup.env("CORETEX_POLICY_FILE", path("rules.yaml"))).await;
        let client = coretex_sdk::Client::connect(server.url()).await.expect("a client");
        let marker = format!("marker-{:016x}", rand::random::<u64>());
        Stage { canary, marker, folder, server, client }
    }

    fn payload(&self, how: &str) -> serde_json::Value {
        json!({"how": how, "marker": self.marker, "db": "secret://CANARY"})
    }

    async fn submit(&self, topic: &str, how: &str) -> String {
        let request = coretex_sdk::JobRequest::new(topic).job_id(how).label("team", "secret://CANARY");
        let request = request
            .json(&self.payload(how))
            .expect("JSON")
            .retry_policy(coretex_sdk::RetryPolicy::attempts(1));
        self.client.submit(request).await.expect("accepted").job_id().to_owned()
    }

    async fn ends(&self, job: &str, wanted: JobState) {
        let ended = tokio::time::timeout(PATIENCE, self.client.wait(job)).await;
        let ended = ended.unwrap_or_else(|_| panic!("{job} has not ended")).expect("a job");
        assert_eq!(ended.state, wanted, "{job}: {:?}", ended.failure);
    }
}

/// All events from the first on, as they come over the wire.
fn follow(api: &Api) -> (Arc<Mutex<Vec<u8>>>, tokio::task::JoinHandle<()>) {
    let (seen, mut events) = (Arc::<Mutex<Vec<u8>>>::default(), api.events());
    let into = seen.clone();
    let following = tokio::spawn(async move {
        let request = pb::WatchEventsRequest { from_beginning: true, ..Default::default() };
        let Ok(stream) = events.watch_events(request).await else { return };
        let mut stream = stream.into_inner();
        while let Ok(Some(event)) = stream.message().await {
            into.lock().expect("no panic").extend(event.encode_to_vec());
        }
    });
    (seen, following)
}

async fn refusals(stage: &Stage, found: &mut Found, api: &Api) {
    let value = &stage.canary.value;
    found.refused("a job that is not there", api.try_job(value).await);
    found.refused("a topic that is none", api.try_submit(spec(value)).await);
    let mut odd = spec("canary.leak");
    odd.labels.insert(format!("coretex.{value}"), value.clone());
    odd.idempotency_key = format!("{value}\n");
    found.refused("labels that are none", api.try_submit(odd).await);
    let filter = pb::ListJobsRequest { filter: format!("state = {value}"), ..Default::default() };
    found.refused("a filter that is none", api.jobs().list_jobs(filter).await);
    let page = pb::ListJobsRequest { page_token: value.clone(), ..Default::default() };
    found.refused("a page token that is none", api.jobs().list_jobs(page).await);
    let dead = pb::GetDeadLetterRequest { dead_letter_id: value.clone(), ..Default::default() };
    found.refused("a dead letter that is not there", api.dlq().get_dead_letter(dead).await);
    let path = format!("/v1/jobs/{}", search::ways(value)[4].1);
    let reply = http1::get(stage.server.addr(), &path).await.expect("an answer");
    found.add("a path that is none", reply.body);
}

fn by_command_line(stage: &Stage, found: &mut Found) {
    let server = &stage.server;
    for job in HOWS.iter().chain(&["late", "review"]) {
        for command in ["get", "wait", "watch", "history", "explain"] {
            let output =
                coretex().args(["job", command, job, "-o", "json", "--addr", &server.url()]).output();
            let output = output.expect("it runs");
            // A wait for a job that failed says so by its code.
            found.add(format!("job {command} {job}"), [output.stdout, output.stderr].concat());
        }
    }
    for format in ["table", "json", "yaml"] {
        for args in [
            &["job", "list"][..],
            &["job", "get", "failure"],
            &["dlq", "list"],
            &["dlq", "get", "failure"],
            &["dlq", "get", "panic"],
            &["dlq", "groups"],
            &["approval", "list", "--any-state"],
            &["config", "get"],
            &["config", "effective"],
            &["admin", "audit", "list"],
            &["admin", "info"],
            &["worker", "list"],
            &["topic", "list"],
            &["policy", "decisions"],
        ] {
            found.cli(server, &[args, &["-o", format]].concat());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_told_to_its_handler_and_is_nowhere_else() {
    let mut stage = Stage::new().await;
    let (mut found, seen) = (Found::default(), Seen::default());
    let (handle, serving) = serve(&stage.server.url(), &seen);
    let api = Api::to(&stage.server.url());
    let (events, following) = follow(&api);
    found.cli(&stage.server, &["config", "set", "--data", r#"{"db": {"password": "secret://CANARY"}}"#]);

    for how in HOWS {
        let job = stage.submit("canary.leak", how).await;
        let ends_well = matches!(how, "result" | "progress" | "refused");
        stage.ends(&job, if ends_well { JobState::Succeeded } else { JobState::Failed }).await;
    }
    // What is written for the moment is gone with the process.
    for stream in ["log", "pieces", "kept"] {
        found.cli(&stage.server, &["job", "output", "progress", "--stream", stream]);
    }
    // People look at a job, and give it another input, which refers to the same secret.
    let review = stage.client.submit(
        coretex_sdk::JobRequest::new("canary.review").job_id("review").json(&json!({})).expect("JSON"),
    );
    review.await.expect("accepted");
    let listed = found.cli(&stage.server, &["approval", "list", "-o", "json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    let id = listed["approvals"][0]["approval_id"].as_str().expect("an approval").to_owned();
    let edited = stage.payload("result").to_string();
    found.cli(&stage.server, &["approval", "approve", &id, "--comment", "fine", "--data", &edited]);
    stage.ends("review", JobState::Succeeded).await;
    // A result that comes when another process serves.
    stage.submit("canary.leak", "late").await;
    tokio::time::timeout(PATIENCE, seen.is_waiting.notified()).await.expect("it runs");
    found.add("events", events.lock().expect("no panic").clone());
    stage.server.kill();
    stage.server.restart().await;
    seen.go_on.notify_one();
    stage.ends("late", JobState::Succeeded).await;

    refusals(&stage, &mut found, &api).await;
    by_command_line(&stage, &mut found);
    for path in ["/metrics", "/readyz"] {
        found.add(path, http1::get(stage.server.addr(), path).await.expect("an answer").body);
    }
    let backup = stage.folder.path().join("backup");
    found.cli(&stage.server, &["admin", "backup", &backup.display().to_string()]);
    handle.drain(Duration::from_secs(5)).await;
    serving.abort();
    following.abort();
    stage.server.stop(PATIENCE).await;
    found.add("log", stage.server.log());
    let files = found.files(&stage.server.data()) + found.files(&backup);

    check(&stage, &found, &seen);
    say(&format!("canary: {} outputs, {files} of them files, 0 hits", found.all.len()));
    EVIDENCE.add("outputs", found.all.len() as u64);
    EVIDENCE.add("files", files as u64);
    EVIDENCE.add("hits", 0);
}

fn check(stage: &Stage, found: &Found, seen: &Seen) {
    // The handlers were told, so there was something to find.
    let told = seen.told.lock().expect("no panic").clone();
    assert_eq!(told.len(), HOWS.len() + 2, "{:?}", told.iter().map(|(how, _)| how).collect::<Vec<_>>());
    assert!(told.iter().all(|(_, value)| *value == stage.canary.value));
    // What stood beside it is where it would be.
    let with = found.with(&stage.marker);
    for place in ["job get result", "job get failure", "job get late", "dlq get panic -o json"] {
        assert!(with.contains(&place), "the marker is not in `{place}`, only in {with:?}");
    }
    for stream in ["log", "pieces", "kept"] {
        assert!(with.iter().any(|name| name.ends_with(stream)), "{stream}: {with:?}");
    }
    assert!(found.with("canary.leak").contains(&"events"));
    let data = stage.server.data().display().to_string();
    assert!(with.iter().any(|name| name.starts_with(&data)), "the marker is in no file of the store");
    assert!(found.with("was told the secrets CANARY").contains(&"admin audit list -o json"));

    let hits: Vec<_> = found
        .all
        .iter()
        .map(|(name, text)| (name, stage.canary.hits(text)))
        .filter(|(_, hits)| !hits.is_empty())
        .collect();
    assert!(hits.is_empty(), "{hits:#?}");
    assert!(found.with("[redacted]").len() > 10);
}
