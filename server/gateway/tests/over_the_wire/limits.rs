//! Bounds of connections, and what is counted.

use crate::running_server::{In, Server, Worker, spec, succeeded};
use coretex_contract::v1 as pb;
use coretex_gateway::GatewaySettings;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const GET: &[u8] = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Asks something on a connection and leaves it open; nothing if it was closed instead of answered.
async fn ask(server: &Server) -> Option<TcpStream> {
    let mut socket = TcpStream::connect(server.addr).await.expect("connects");
    let mut answer = [0; 512];
    socket.write_all(GET).await.ok()?;
    match socket.read(&mut answer).await {
        Ok(n) if n > 0 => Some(socket),
        Ok(_) | Err(_) => None,
    }
}

#[tokio::test]
async fn an_address_has_a_bounded_number_of_connections() {
    let settings = GatewaySettings { connections_per_address_max: 2, ..Default::default() };
    let server = Server::with(settings).await;
    let one = ask(&server).await.expect("the first");
    let two = ask(&server).await.expect("the second");
    assert!(ask(&server).await.is_none(), "the third is closed");
    drop(one);
    let mut tries = 0;
    while ask(&server).await.is_none() && tries < 100 {
        tries += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(tries < 100, "the place of the first is free again");
    drop(two);
    server.stop().await;
}

#[tokio::test]
async fn a_connection_that_lies_idle_is_closed() {
    let settings = GatewaySettings { connection_idle_max: Duration::from_millis(200), ..Default::default() };
    let server = Server::with(settings).await;
    // A stream keeps its connection in use, however quiet it is.
    let mut worker = Worker::join(&server, &["job.i"]).await;
    let mut idle = ask(&server).await.expect("answered");
    let end = tokio::time::timeout(Duration::from_secs(5), idle.read(&mut [0; 16])).await;
    assert_eq!(end.expect("well before the header timeout").expect("a clean end"), 0);
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.submit(spec("job.i")).await.expect("accepted");
    assert_eq!(worker.assigned().await.len(), 1);
    server.stop().await;
}

/// Submits on whatever connection there is: a client may hand a call to one it has just been told to leave.
async fn submit(server: &Server) {
    for _ in 0..100 {
        if server.submit(spec("job.a")).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no connection takes a call");
}

#[tokio::test]
async fn an_old_connection_sends_its_workers_away_and_is_cut_after_the_grace() {
    let settings = GatewaySettings {
        connection_age_max: Some(Duration::from_millis(200)),
        connection_age_grace: Duration::from_secs(1),
        ..Default::default()
    };
    let server = Server::with(settings).await;
    let mut worker = Worker::join(&server, &["job.a"]).await;
    let away = loop {
        if let Some(In::GoAway(away)) = worker.next().await {
            break away;
        }
    };
    assert_eq!((away.reason(), away.keep_existing_leases), (pb::GoAwayReason::MaxAge, true));
    assert_eq!(away.drain_deadline.map(|d| d.seconds), Some(1));
    // New calls go over another connection; the old stream works on until the grace is over.
    submit(&server).await;
    let assigned = worker.assigned().await;
    worker.report(vec![succeeded(&assigned[0])]).await;
    let end = tokio::time::timeout(Duration::from_secs(10), async {
        while let Ok(Some(_)) = worker.receive.message().await {}
    });
    end.await.expect("cut");
    submit(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn the_listener_of_metrics_tells_of_all_topics_and_calls() {
    let settings = GatewaySettings { metrics: false, ..Default::default() };
    let counts = settings.counts.clone();
    let server = Server::with(settings).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let addr = listener.local_addr().expect("an address");
    let never = std::future::pending();
    let serving =
        tokio::spawn(coretex_gateway::serve_metrics(listener, server.engine.clone(), counts, never));

    let mut worker = Worker::join(&server, &["job.m"]).await;
    server.submit(spec("job.m")).await.expect("accepted");
    let assigned = worker.assigned().await;
    worker.report(vec![succeeded(&assigned[0])]).await;
    server.submit(spec("job.queued")).await.expect("accepted");
    let mut socket = TcpStream::connect(addr).await.expect("connects");
    let get = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    socket.write_all(get).await.expect("sends");
    let mut text = String::new();
    socket.read_to_string(&mut text).await.expect("answers");
    for line in [
        "coretex_jobs_submitted_total 2",
        "coretex_jobs_completed_total{topic=\"job.m\",state=\"SUCCEEDED\"} 1",
        "coretex_job_queue_depth{topic=\"job.queued\"} 1",
        "coretex_job_queue_age_seconds{topic=\"job.queued\"}",
        "coretex_job_schedule_to_start_seconds_count 1",
        "coretex_job_run_seconds_count 1",
        "coretex_attempts_total 1",
        "coretex_dead_letters_total 0",
        "coretex_policy_decisions_total{verdict=\"ALLOW\"} 2",
        "coretex_commit_seconds_count",
        "coretex_commit_batch_size_count",
        "coretex_worker_sessions 1",
        "coretex_worker_slots{pool=\"default\"} 100",
        "method=\"SubmitJob\",code=\"Ok\"} 2",
        "coretex_invariant_violations_total 0",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    serving.abort();
    server.stop().await;
}
