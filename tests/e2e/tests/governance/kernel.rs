//! A policy kernel in another process: it judges, it dies, jobs wait, it comes back, they go on.

use crate::{count, start};
use coretex_e2e::process::{coretex, free_port};
use coretex_sdk::raw::v1;
use coretex_sdk::{Ctx, HandlerError, JobRequest, JobState, Payload, Worker};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(60);

const RULES: &str = r#"
name: default
default: allow
rules:
  - id: no-mail
    match: { topics: [job.mail] }
    verdict: deny
    reason: nobody writes
    remediations: [{ id: chat, title: Chat instead, replacement_topic: job.chat }]
  - id: tight
    match: { topics: [job.llm] }
    verdict: allow_with_constraints
    constraints: { budgets: { max_runtime: 7s }, toolchain: { allowed_tools: [read] } }
"#;

/// `coretex safety serve`, killed when dropped.
struct Kernel(Child);

impl Kernel {
    fn start(port: u16, directory: &std::path::Path, rules: &str) -> Kernel {
        let file = directory.join("rules.yaml");
        std::fs::write(&file, rules).unwrap();
        let listen = format!("127.0.0.1:{port}");
        let store = format!("file:{}", directory.join("kernel").display());
        let policy = format!("policy.file={}", file.display());
        let child = coretex()
            .args(["safety", "serve", "--dev", "--listen", &listen, "--store", &store, "--set", &policy])
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.join("kernel.log")).unwrap())
            .spawn()
            .unwrap();
        let until = Instant::now() + WAIT;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = || std::fs::read_to_string(directory.join("kernel.log")).unwrap_or_default();
            assert!(Instant::now() < until, "the kernel does not listen: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Kernel(child)
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn until(client: &coretex_sdk::Client, id: &str, wanted: JobState) -> coretex_sdk::Job {
    let end = Instant::now() + WAIT;
    loop {
        let job = client.get(id).await.unwrap();
        if job.state == wanted {
            return job;
        }
        assert!(Instant::now() < end, "{id} is {:?}, not {wanted:?}", job.state);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_wait_while_the_kernel_is_dead_and_go_on_when_it_returns() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let kernel = Kernel::start(port, directory.path(), RULES);
    let url = format!("http://127.0.0.1:{port}");
    let (server, client) = start(&[("policy.kernel", &url)]).await;

    // It judges, with all that comes with a verdict.
    let mail = client.submit(JobRequest::new("job.mail")).await.unwrap();
    let denied = until(&client, mail.job_id(), JobState::Denied).await.decision.unwrap();
    assert_eq!((denied.rule_id.as_str(), denied.reason.as_str()), ("no-mail", "nobody writes"));
    assert_eq!(denied.remediations[0].replacement_topic, "job.chat");
    let worker = Worker::builder(client.clone())
        .bind_fn("job.llm", async |ctx: Ctx, _: Payload| {
            let tools = ctx.constraints().allowed_tools.unwrap_or_default();
            Ok::<_, HandlerError>(Payload::json(&tools).unwrap())
        })
        .build()
        .unwrap();
    let serving = tokio::spawn(worker.run_until(std::future::pending::<()>()));
    let llm = client.submit(JobRequest::new("job.llm")).await.unwrap();
    let done = client.wait_for(llm.job_id(), WAIT).await.unwrap();
    assert_eq!((done.state, &done.result.unwrap().data()[..]), (JobState::Succeeded, &br#"["read"]"#[..]));

    // What is asked of a server that does not judge is refused there.
    let refused = client.raw().safety().list_policies(v1::ListPoliciesRequest::default()).await;
    assert!(refused.is_ok(), "what is kept here can be read");
    let apply = v1::ApplyPolicyRequest { name: "default".into(), yaml: RULES.into(), ..Default::default() };
    let refused = client.raw().safety().apply_policy(apply).await.unwrap_err();
    assert!(refused.message().contains("policy.kernel"), "{refused}");

    // An outage decides nothing.
    kernel.kill();
    let mut waiting = Vec::new();
    for _ in 0..50 {
        waiting.push(client.submit(JobRequest::new("job.llm")).await.unwrap().job_id().to_owned());
    }
    let forbidden = client.submit(JobRequest::new("job.mail")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    for id in waiting.iter().map(String::as_str).chain([forbidden.job_id()]) {
        let job = client.get(id).await.unwrap();
        assert_eq!(job.state, JobState::Pending, "{:?}", job.failure);
    }
    let why = client.explain(&waiting[0]).await.unwrap();
    assert!(format!("{why:?}").contains("POLICY_UNAVAILABLE"), "{why:?}");

    // It returns, with one rule more.
    let more = RULES.replace("[job.mail]", "[job.mail, job.fax]");
    let _kernel = Kernel::start(port, directory.path(), &more);
    for id in &waiting {
        assert_eq!(client.wait_for(id, WAIT).await.unwrap().state, JobState::Succeeded);
    }
    until(&client, forbidden.job_id(), JobState::Denied).await;
    let fax = client.submit(JobRequest::new("job.fax")).await.unwrap();
    until(&client, fax.job_id(), JobState::Denied).await;
    serving.abort();
    drop(server);
    count();
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_were_asked_about_when_the_server_was_killed_are_asked_about_again() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let (mut server, client) = start(&[("policy.kernel", &url)]).await;
    let mut ids = Vec::new();
    for topic in ["job.mail", "job.fine"].into_iter().cycle().take(40) {
        ids.push((topic, client.submit(JobRequest::new(topic)).await.unwrap().job_id().to_owned()));
    }
    server.kill();
    let _kernel = Kernel::start(port, directory.path(), RULES);
    server.restart().await;
    for (topic, id) in &ids {
        let wanted = if *topic == "job.mail" { JobState::Denied } else { JobState::Scheduled };
        until(&client, id, wanted).await;
    }
    count();
}

#[test]
fn a_kernel_serves_safety_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let _kernel = Kernel::start(port, directory.path(), RULES);
    let addr = format!("http://127.0.0.1:{port}");
    let ask = |args: &[&str]| {
        let output = coretex().args(args).args(["--addr", &addr]).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, out) = ask(&["policy", "check", "--topic", "job.mail"]);
    assert!(code == Some(0) && out.contains("DENY"), "{out}");
    let (code, out) = ask(&["job", "submit", "--topic", "job.mail"]);
    assert!(code == Some(1) && out.contains("UNKNOWN_METHOD"), "{code:?} {out}");
    count();
}

#[test]
fn a_server_has_one_judge() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules.yaml");
    std::fs::write(&file, RULES).unwrap();
    let policy = format!("policy.file={}", file.display());
    let start = |command: &[&str], more: &[&str]| {
        let sets = more.iter().flat_map(|set| ["--set", set]);
        let args = ["--store", "memory:", "--listen", "127.0.0.1:0"];
        let output = coretex().args(command).args(args).args(sets).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, why) = start(&["dev"], &[&policy, "policy.kernel=http://127.0.0.1:7171"]);
    assert!(code == Some(78) && why.contains("R10") && why.contains("one of them judges"), "{why}");
    let (code, why) = start(&["dev"], &["policy.kernel=:nowhere"]);
    assert!(code == Some(78) && why.contains("R10"), "{why}");
    let (code, why) = start(&["server"], &["policy.kernel=http://safety.example.org:7171"]);
    assert!(code == Some(78) && why.contains("R9"), "{why}");
    count();
}
