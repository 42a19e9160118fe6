//! Dead letters as callers see them: listed, grouped, retried, deleted.

mod bad_input;
mod redrive;

use crate::running_server::{In, Server, Worker, reason, spec, succeeded, update};
use coretex_contract::v1 as pb;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tonic::Code;

/// A worker that fails every job until it is mended.
struct Handler {
    is_mended: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Handler {
    async fn broken(server: &Server, topics: &[&str]) -> Handler {
        let mut worker = Worker::join(server, topics).await;
        let is_mended = Arc::new(AtomicBool::new(false));
        let mended = is_mended.clone();
        let task = tokio::spawn(async move {
            while let Ok(Ok(Some(message))) =
                tokio::time::timeout(Duration::from_secs(60), worker.receive.message()).await
            {
                let Some(In::Assign(assign)) = message.frame else { continue };
                let mut updates = Vec::new();
                for assignment in &assign.assignments {
                    updates.push(update(assignment, pb::JobUpdateKind::Started));
                    updates.push(match mended.load(Ordering::Acquire) {
                        true => succeeded(assignment),
                        false => failed(assignment),
                    });
                }
                worker.report(updates).await;
            }
        });
        Handler { is_mended, task }
    }

    fn mend(&self) {
        self.is_mended.store(true, Ordering::Release);
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Fails as a handler would that names the job in its message.
fn failed(assignment: &pb::Assignment) -> pb::JobUpdate {
    let failure = pb::Failure {
        r#type: "UPSTREAM".into(),
        message: format!("upstream said 503 to request {}", assignment.lease_id),
        retryable: true,
        ..Default::default()
    };
    pb::JobUpdate { failure: Some(failure), ..update(assignment, pb::JobUpdateKind::Failed) }
}

/// A spec whose job fails at its first failure.
fn once(topic: &str) -> pb::JobSpec {
    let retry_policy = Some(pb::RetryPolicy { max_attempts: Some(1), ..Default::default() });
    pb::JobSpec { retry_policy, ..spec(topic) }
}

/// Submits jobs and waits until all have ended; their ids in order.
async fn run_all(server: &Server, specs: Vec<pb::JobSpec>) -> Vec<String> {
    let mut ids = Vec::new();
    for spec in specs {
        ids.push(server.submit(spec).await.expect("accepted").job.expect("a job").job_id);
    }
    for id in &ids {
        let request = pb::WaitJobRequest { job_id: id.clone(), ..Default::default() };
        let job = server.jobs().wait_job(request).await.expect("waited").into_inner().job.expect("a job");
        assert!(job.state().is_terminal(), "{job:?}");
    }
    ids
}

async fn list(server: &Server, filter: &str) -> Vec<pb::DeadLetter> {
    let request = pb::ListDeadLettersRequest { filter: filter.into(), ..Default::default() };
    server.dlq().list_dead_letters(request).await.expect("a page").into_inner().dead_letters
}

fn ids_of(letters: &[pb::DeadLetter]) -> Vec<&str> {
    letters.iter().map(|letter| letter.dead_letter_id.as_str()).collect()
}

async fn get(server: &Server, id: &str) -> Result<pb::DeadLetter, tonic::Status> {
    let request = pb::GetDeadLetterRequest { dead_letter_id: id.into(), ..Default::default() };
    server.dlq().get_dead_letter(request).await.map(|r| r.into_inner().dead_letter.expect("one"))
}

async fn retry(server: &Server, id: &str, request_id: &str) -> pb::RetryDeadLetterResponse {
    let request = pb::RetryDeadLetterRequest {
        dead_letter_id: id.into(),
        request_id: request_id.into(),
        ..Default::default()
    };
    server.dlq().retry_dead_letter(request).await.expect("retried").into_inner()
}

#[tokio::test]
async fn a_job_that_fails_all_its_attempts_appears_once() {
    let server = Server::start().await;
    let _handler = Handler::broken(&server, &["job.m"]).await;
    let backoff = coretex_contract::Duration { seconds: 0, nanos: 10_000_000 };
    let retry_policy =
        Some(pb::RetryPolicy { max_attempts: Some(2), initial_backoff: Some(backoff), ..Default::default() });
    let ids = run_all(&server, vec![pb::JobSpec { retry_policy, ..spec("job.m") }]).await;
    let [letter] = &list(&server, "").await[..] else { panic!("one dead letter") };
    assert_eq!((letter.dead_letter_id.as_str(), letter.topic.as_str()), (ids[0].as_str(), "job.m"));
    assert_eq!((letter.state(), letter.reason.as_str()), (pb::JobState::Failed, "UPSTREAM"));
    assert_eq!((letter.attempts, letter.fingerprint.len()), (2, 16));
    assert!(letter.message.starts_with("upstream said 503") && letter.job.is_none());

    let whole = get(&server, &ids[0]).await.expect("there");
    let job = whole.job.as_ref().expect("the job");
    assert_eq!(job.spec.as_ref().and_then(|s| s.payload.clone()), spec("job.m").payload);
    let tries: Vec<_> = whole.attempt_list.iter().map(|a| (a.attempt, a.reason.as_str())).collect();
    assert_eq!(tries, [(1, "UPSTREAM"), (2, "UPSTREAM")]);
    assert!(
        whole
            .attempt_list
            .iter()
            .all(|a| a.start_time.is_some() && a.end_time.is_some() && !a.worker_id.is_empty())
    );
    assert_eq!(pb::DeadLetter { job: None, attempt_list: Vec::new(), ..whole.clone() }, *letter);

    let refused = get(&server, "job_00000000000000000000000001").await.expect_err("unknown");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "DEAD_LETTER_NOT_FOUND"));
    server.stop().await;
}

#[tokio::test]
async fn jobs_that_end_well_or_are_cancelled_leave_none() {
    let server = Server::start().await;
    let handler = Handler::broken(&server, &["job.m"]).await;
    handler.mend();
    let ids = run_all(&server, vec![once("job.m")]).await;
    let waiting = server.submit(spec("job.nobody")).await.expect("accepted").job.expect("a job").job_id;
    let cancel = pb::CancelJobRequest { job_id: waiting, ..Default::default() };
    server.jobs().cancel_job(cancel).await.expect("cancelled");
    assert!(list(&server, "").await.is_empty());
    let refused = get(&server, &ids[0]).await.expect_err("none");
    assert_eq!(reason(&refused), "DEAD_LETTER_NOT_FOUND");
    server.stop().await;
}

#[tokio::test]
async fn pages_join_in_both_orders_and_filters_narrow_them() {
    let server = Server::start().await;
    let _handler = Handler::broken(&server, &["job.m", "job.n"]).await;
    let mut ids = run_all(&server, (0..7).map(|_| once("job.m")).collect()).await;
    ids.extend(run_all(&server, vec![once("job.n")]).await);
    for (order, is_newest_first) in [("", true), ("create_time desc", true), ("create_time asc", false)] {
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListDeadLettersRequest {
                page_size: 3,
                page_token: token,
                order_by: order.into(),
                ..Default::default()
            };
            let page = server.dlq().list_dead_letters(request).await.expect("a page").into_inner();
            found.extend(
                page.dead_letters.into_iter().map(|letter| (letter.create_time, letter.dead_letter_id)),
            );
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        let in_order = |pair: &[(Option<coretex_contract::Timestamp>, String)]| {
            let [a, b] = pair else { return true };
            let key = |t: &Option<coretex_contract::Timestamp>| t.as_ref().map(|t| (t.seconds, t.nanos));
            if is_newest_first { key(&a.0) >= key(&b.0) } else { key(&a.0) <= key(&b.0) }
        };
        assert!(found.windows(2).all(in_order), "{order}: {found:?}");
        let mut found: Vec<String> = found.into_iter().map(|(_, id)| id).collect();
        let mut wanted = ids.clone();
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted, "{order}");
    }
    let fingerprint = list(&server, "topic = job.n").await[0].fingerprint.clone();
    for (filter, count) in [
        ("topic = job.m", 7),
        ("state = FAILED AND reason = UPSTREAM", 8),
        ("state = EXPIRED", 0),
        ("end_time > \"2200-01-01T00:00:00Z\"", 0),
        ("retried_as = \"\"", 8),
        (format!("fingerprint = \"{fingerprint}\"").as_str(), 1),
    ] {
        assert_eq!(list(&server, filter).await.len(), count, "{filter}");
    }
    server.stop().await;
}

#[tokio::test]
async fn groups_tell_causes_apart() {
    let server = Server::start().await;
    let _handler = Handler::broken(&server, &["job.m", "job.n"]).await;
    run_all(&server, (0..9).map(|_| once("job.m")).collect()).await;
    let n = run_all(&server, vec![once("job.n")]).await;
    retry(&server, &n[0], "r").await;
    let group = |max_groups, filter: &str| pb::GroupDeadLettersRequest { filter: filter.into(), max_groups };
    let all = server.dlq().group_dead_letters(group(0, "topic = job.m OR retry_of = \"\"")).await;
    let all = all.expect("groups").into_inner();
    assert_eq!((all.group_count, all.count, all.exact), (2, 10, true));
    let [m, other] = &all.groups[..] else { panic!("{all:?}") };
    assert_eq!((m.topic.as_str(), m.count, m.retried, m.sample_ids.len()), ("job.m", 9, 0, 5));
    assert_eq!((other.topic.as_str(), other.count, other.retried), ("job.n", 1, 1));
    assert_eq!((other.reason.as_str(), &other.sample_ids), ("UPSTREAM", &n));
    assert!(m.first_time.as_ref().map(|t| t.seconds) <= m.last_time.as_ref().map(|t| t.seconds));
    let first = server.dlq().group_dead_letters(group(1, "")).await.expect("groups").into_inner();
    assert_eq!((first.groups.len(), first.group_count), (1, 2));
    server.stop().await;
}

#[tokio::test]
async fn a_retry_links_both_jobs_and_is_made_once() {
    let server = Server::start().await;
    let handler = Handler::broken(&server, &["job.m"]).await;
    let id = run_all(&server, vec![once("job.m")]).await.remove(0);
    handler.mend();
    let first = retry(&server, &id, "").await;
    let new_id = first.job.clone().expect("a job").job_id;
    assert!(!first.existing && new_id != id);
    assert_eq!(first.dead_letter.expect("the dead letter").retried_as, new_id);
    let again = retry(&server, &id, "").await;
    assert_eq!((again.existing, again.job.expect("a job").job_id), (true, new_id.clone()));

    let named = retry(&server, &id, "another").await;
    let named_id = named.job.expect("a job").job_id;
    assert!(!named.existing && named_id != new_id);
    let repeat = retry(&server, &id, "another").await;
    assert_eq!((repeat.existing, repeat.job.expect("a job").job_id), (true, named_id.clone()));
    // RetryJob is the same operation.
    let same = pb::RetryJobRequest { job_id: id.clone(), request_id: "another".into(), ..Default::default() };
    let same = server.jobs().retry_job(same).await.expect("retried").into_inner();
    assert_eq!((same.existing, same.job.expect("a job").job_id), (true, named_id.clone()));

    let new = server.get(&new_id).await.expect("there");
    assert_eq!((new.retry_of.as_str(), new.decision.is_some()), (id.as_str(), true), "judged again");
    assert_eq!(get(&server, &id).await.expect("kept").retried_as, named_id);
    let edited = pb::RetryDeadLetterRequest {
        dead_letter_id: id,
        edited_input: Some(pb::Payload::data("text/plain", &b"mended"[..])),
        request_id: "edited".into(),
    };
    let edited = server.dlq().retry_dead_letter(edited).await.expect("retried").into_inner();
    let edited = server.get(&edited.job.expect("a job").job_id).await.expect("there");
    let body = edited.spec.and_then(|s| s.payload).and_then(|p| p.body);
    assert_eq!(body, Some(pb::payload::Body::Data(b"mended"[..].into())));
    server.stop().await;
}

#[tokio::test]
async fn a_deleted_dead_letter_is_gone_and_its_job_stays() {
    let server = Server::start().await;
    let _handler = Handler::broken(&server, &["job.m"]).await;
    let ids = run_all(&server, vec![once("job.m"), once("job.m")]).await;
    let delete = |id: &str| pb::DeleteDeadLetterRequest { dead_letter_id: id.into(), ..Default::default() };
    let gone = server.dlq().delete_dead_letter(delete(&ids[0])).await.expect("deleted").into_inner();
    assert!(gone.deleted);
    let again = server.dlq().delete_dead_letter(delete(&ids[0])).await.expect("fine").into_inner();
    assert!(!again.deleted);
    assert_eq!(ids_of(&list(&server, "").await), [ids[1].as_str()]);
    assert_eq!(reason(&get(&server, &ids[0]).await.expect_err("gone")), "DEAD_LETTER_NOT_FOUND");
    let request = pb::RetryDeadLetterRequest { dead_letter_id: ids[0].clone(), ..Default::default() };
    let refused = server.dlq().retry_dead_letter(request).await.expect_err("gone");
    assert_eq!(reason(&refused), "DEAD_LETTER_NOT_FOUND");

    let history = pb::GetJobHistoryRequest { job_id: ids[0].clone(), ..Default::default() };
    let events = server.jobs().get_job_history(history).await.expect("a page").into_inner().events;
    assert_eq!(events.last().map(|e| e.message.as_str()), Some("dead letter deleted"));
    let retry = pb::RetryJobRequest { job_id: ids[0].clone(), ..Default::default() };
    server.jobs().retry_job(retry).await.expect("the job can be retried all the same");
    server.stop().await;
}

#[tokio::test]
async fn a_purge_previews_and_then_deletes_what_it_said() {
    let server = Server::start().await;
    let _handler = Handler::broken(&server, &["job.m", "job.n"]).await;
    let old = run_all(&server, (0..5).map(|_| once("job.m")).collect()).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let between = std::time::SystemTime::now().into();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let new = run_all(&server, vec![once("job.m"), once("job.n")]).await;
    let purge = |preview| pb::PurgeDeadLettersRequest {
        filter: "topic = job.m".into(),
        before_time: Some(between),
        preview,
        ..Default::default()
    };
    let preview = server.dlq().purge_dead_letters(purge(true)).await.expect("a preview").into_inner();
    assert_eq!((preview.matched, preview.exact, preview.purged), (5, true, 0));
    assert_eq!(preview.sample.len(), 5);
    assert_eq!(list(&server, "").await.len(), 7, "a preview changes nothing");
    let done = server.dlq().purge_dead_letters(purge(false)).await.expect("purged").into_inner();
    assert_eq!((done.purged, done.more), (5, false));
    let again = server.dlq().purge_dead_letters(purge(false)).await.expect("purged").into_inner();
    assert_eq!((again.purged, again.more), (0, false));
    let mut left = ids_of(&list(&server, "").await).into_iter().map(str::to_owned).collect::<Vec<_>>();
    left.sort();
    let mut wanted = new.clone();
    wanted.sort();
    assert_eq!(left, wanted);
    assert!(server.get(&old[0]).await.is_ok(), "the jobs stay");
    let all = pb::PurgeDeadLettersRequest { all: true, ..Default::default() };
    assert_eq!(server.dlq().purge_dead_letters(all).await.expect("purged").into_inner().purged, 2);
    assert!(list(&server, "").await.is_empty());
    server.stop().await;
}
