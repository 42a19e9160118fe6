//! Secrets of a file, given to a program as variables, and exchanged while the server runs.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use coretex_sdk::{Client, Job, JobRequest, JobState, RetryPolicy};
use coretex_testkit::ServerProcess;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_coretex");
const WAIT: Duration = Duration::from_secs(30);

fn write(path: &Path, text: &str) {
    // Whole or not at all, as an operator's tools do.
    let part = path.with_extension("part");
    std::fs::write(&part, text).unwrap();
    std::fs::set_permissions(&part, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(part, path).unwrap();
}

async fn run(client: &Client, payload: Value) -> Job {
    let request = JobRequest::new("job.exec").json(&payload).unwrap().retry_policy(RetryPolicy::attempts(1));
    let job = client.submit(request).await.unwrap();
    tokio::time::timeout(WAIT, client.wait(job.job_id())).await.unwrap().unwrap()
}

/// How long the value is that the program was given.
async fn length(client: &Client) -> u64 {
    let ended = run(client, json!({"db": "secret://DB"})).await;
    assert_eq!(ended.state, JobState::Succeeded, "{:?}", ended.failure);
    ended.result.unwrap().parse().unwrap()
}

struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_gets_the_value_of_the_file_as_it_is_then() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secrets.yaml");
    write(&file, "default:\n  DB: \"1234567890\"\n");
    let builder = ServerProcess::builder().unwrap().binary(BINARY).directory(directory.path().join("s"));
    let server = builder.set("secrets.file", &file.display().to_string()).start().await.unwrap();
    let client = server.client().await.unwrap();
    let mut command = Command::new(BINARY);
    command.args(["worker", "run", "--topic", "job.exec", "--addr", &server.addr()]);
    command.args(["--secret", "DB=DB_URL", "--exec", "sh", "-c", "echo ${#DB_URL}"]);
    command.env_remove("DB_URL").stdin(Stdio::null()).stderr(Stdio::null());
    let _worker = Worker(command.spawn().unwrap());
    assert_eq!(length(&client).await, 10);

    let refused = run(&client, json!({"db": "the secret://DB of a text"})).await;
    assert_eq!(refused.state, JobState::Failed);
    assert_eq!(refused.failure.unwrap().kind, "SECRET_REFUSED");

    // A file that cannot be used changes nothing; a good one is taken without a restart.
    write(&file, "default: [broken");
    tokio::time::sleep(Duration::from_millis(4_500)).await;
    assert_eq!(length(&client).await, 10);
    write(&file, "default:\n  DB: \"12345678901234567890\"\n");
    let until = Instant::now() + WAIT;
    while length(&client).await != 20 {
        assert!(Instant::now() < until, "the new value is not in force");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
