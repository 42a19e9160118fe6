//! Programs as handlers, with no server.

use super::*;
use coretex_sdk::testing::Call;
use std::time::Instant;

async fn run(argv: &[&str], input: &str, cancel: bool) -> Result<Payload, HandlerError> {
    let program = Program {
        argv: argv.iter().map(|&arg| arg.to_owned()).collect(),
        kill_grace: Duration::from_millis(200),
        result_max: 1_000,
        content_type: None,
        secrets: Vec::new(),
    };
    let call = Call::new("job.test").attempt(2);
    let call = if cancel { call.cancelled("enough") } else { call };
    let handler = move |ctx: Ctx, input: Payload| {
        let program = program.clone();
        async move { program.run(ctx, input).await }
    };
    call.call(handler, Payload::new("text/plain", input.to_owned())).await.result
}

#[tokio::test]
async fn standard_output_is_the_result() {
    let result = run(&["cat"], r#"{"a":1}"#, false).await.expect("cat");
    assert_eq!((result.content_type(), result.data().as_ref()), (JSON, r#"{"a":1}"#.as_bytes()));
    let result = run(&["cat"], "plain", false).await.expect("cat");
    assert_eq!(result.content_type(), "text/plain; charset=utf-8");
    assert!(run(&["true"], "ignored", false).await.expect("true").is_empty());
}

#[tokio::test]
async fn job_facts_are_in_the_environment() {
    let script = "printf '%s %s %s' \"$CORETEX_JOB_ID\" \"$CORETEX_ATTEMPT\" \"$CORETEX_TOPIC\"";
    let result = run(&["sh", "-c", script], "", false).await.expect("sh");
    assert_eq!(result.data().as_ref(), b"job_test 2 job.test");
}

#[tokio::test]
async fn arguments_never_meet_a_shell() {
    let result = run(&["printf", "%s", "$(id); `id` | & ;"], "", false).await.expect("printf");
    assert_eq!(result.data().as_ref(), b"$(id); `id` | & ;");
}

#[tokio::test]
async fn exit_codes_fail_with_the_tail_of_standard_error() {
    let error = run(&["sh", "-c", "echo lost >&2; exit 7"], "", false).await.expect_err("exit 7");
    assert_eq!((error.kind(), error.message()), ("EXIT_7", "lost"));
    let error = run(&["sh", "-c", "kill -9 $$"], "", false).await.expect_err("killed");
    assert_eq!(error.kind(), "SIGNAL_9");
    let error = run(&["/nowhere/program"], "", false).await.expect_err("missing");
    assert_eq!(error.kind(), "SPAWN");
}

#[tokio::test]
async fn too_much_output_fails_for_good() {
    let started = Instant::now();
    let error = run(&["yes"], "", false).await.expect_err("endless");
    assert!(error.is_terminal() && error.kind() == "RESULT_TOO_LARGE", "{error}");
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_cancelled_program_is_ended_even_if_it_will_not() {
    let started = Instant::now();
    let stubborn = "trap '' TERM; while true; do sleep 0.1; done";
    let error = run(&["sh", "-c", stubborn], "", true).await.expect_err("cancelled");
    assert!(error.is_cancelled(), "{error}");
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn children_left_behind_do_not_hold_up_the_job() {
    let started = Instant::now();
    let result = run(&["sh", "-c", "sleep 300 & echo done"], "", false).await.expect("sh");
    assert_eq!(result.data().as_ref(), b"done\n");
    assert!(started.elapsed() < Duration::from_secs(60));
}
