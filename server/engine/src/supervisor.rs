//! Keeps the loops running: claims the store, fills the views, and does it again after a failure.

use crate::house;
use crate::mail::Mail;
use crate::runs::Recovered;
use crate::sessions;
use crate::shard::{Exit, ShardLoop};
use crate::shared::Shared;
use crate::tokens::Tokens;
use coretex_domain::{SessionId, Span};
use coretex_kernel::path::recover::recover;
use coretex_kernel::{Dispatcher, View};
use coretex_ports::{Claim, StoreError, Write};
use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// Wait before the store is claimed again after a failure, at most.
const RECLAIM_WAIT_MAX: Span = Span::secs(5);
/// Failures within this span that stop the engine for good.
const PANIC_WINDOW: Span = Span::mins(1);
/// Rows removed per retention step.
const CLEAN_BATCH: usize = 2_000;

pub(crate) type Mailboxes = Vec<mpsc::Receiver<Mail>>;

/// Runs loops until the mailboxes close. Any loop that fails takes the others down and all are loaded again.
pub(crate) async fn run(shared: Arc<Shared>, mut mailboxes: Mailboxes, claim: Claim) {
    let mut claim = Some(claim);
    let mut last_panic = None;
    loop {
        let current = match claim.take() {
            Some(claim) => claim,
            None => match reclaim(&shared).await {
                Some(claim) => claim,
                None => return,
            },
        };
        let current = crate::config::complete(&shared, current).await;
        // Workflows of open runs are looked up in it.
        shared.catalog.fill(&current.resources);
        let runs = crate::runs::gather(&shared, &current).await;
        let loops = prepare(&shared, current, runs);
        let mut tasks = JoinSet::new();
        for (who, (shard_loop, mut mailbox)) in
            loops.into_iter().zip(std::mem::take(&mut mailboxes)).enumerate()
        {
            tasks.spawn(async move {
                let exit = AssertUnwindSafe(shard_loop.run(&mut mailbox)).catch_unwind().await;
                (who, exit, mailbox)
            });
        }
        shared.is_up.store(true, Ordering::Release);
        let mut has_failed = false;
        let mut has_panicked = false;
        let mut returned = Vec::new();
        while let Some(joined) = tasks.join_next().await {
            let Ok((who, exit, mailbox)) = joined else { continue };
            returned.push((who, mailbox));
            has_panicked |= exit.is_err();
            if !matches!(exit, Ok(Exit::Stopped)) {
                has_failed = true;
            }
            if has_failed {
                shared.is_up.store(false, Ordering::Release);
                shared.halt.set();
            }
        }
        shared.halt.clear();
        if !has_failed {
            return;
        }
        let now = shared.env.clock.now().mono;
        if has_panicked && last_panic.replace(now).is_some_and(|at| now.since(at) < PANIC_WINDOW) {
            tracing::error!("a shard loop panicked twice within a minute; the engine stops");
            return;
        }
        // They end in any order, and each goes on with the mail of its own shards.
        returned.sort_by_key(|(who, _)| *who);
        mailboxes = returned.into_iter().map(|(_, mailbox)| mailbox).collect();
        shared.sessions.go_away_all("the shard was reloaded", Span::ZERO);
    }
}

/// Claims again until it works; `None` if the store is gone for good.
async fn reclaim(shared: &Arc<Shared>) -> Option<Claim> {
    let mut wait = Span(50);
    loop {
        match shared.store.claim(&shared.settings.node_id).await {
            Ok(claim) => return Some(claim),
            Err(
                error @ (StoreError::Corrupt { .. } | StoreError::InUse { .. } | StoreError::Newer { .. }),
            ) => {
                tracing::error!(%error, "the store cannot be used; the engine stops");
                return None;
            }
            Err(error) => {
                tracing::warn!(%error, "the store cannot be claimed yet");
                if shared.is_draining.load(Ordering::Acquire) {
                    return None;
                }
                let until = shared.env.clock.now().mono + wait;
                shared.env.clock.sleep_until(until).await;
                wait = Span((wait.0 * 2).min(RECLAIM_WAIT_MAX.0));
            }
        }
    }
}

/// Fills one view per loop from what the store has.
fn prepare(shared: &Arc<Shared>, claim: Claim, runs: Vec<Recovered>) -> Vec<ShardLoop> {
    // Time goes on from where the stored jobs left it, whatever the system clock says now.
    if let Some(newest) = claim.open.iter().map(|job| job.update_time).max() {
        shared.env.clock.raise(newest);
    }
    let now = shared.env.clock.now();
    let count = shared.mailboxes.len();
    // Before the epoch: those who wait for it decide on what the catalog was filled with.
    shared.namespaces.fill(shared, &claim.open);
    let is_reload = shared.epoch.swap(claim.epoch, Ordering::AcqRel) != 0;
    shared.set_tokens(Tokens::new(claim.secrets.clone()));
    for topic in &claim.topics {
        shared.keep_topic_row(topic.clone());
    }
    // What the house did for the loops before goes back, as what it did in a process before.
    let mut of_house = house::reset(shared);
    let mut dispatcher = shared.dispatcher();
    *dispatcher = Dispatcher::default();
    let policy = shared.policy();
    let mut jobs: Vec<Vec<_>> = vec![Vec::new(); count];
    for job in claim.open {
        jobs[shared.loop_of(job.shard)].push(job);
    }
    let mut runs = runs;
    let mut approvals = crate::approvals::pending(&claim.resources);
    let mut loops = Vec::with_capacity(count);
    for (who, jobs) in jobs.into_iter().enumerate() {
        let mut view = View::new(who, policy.clone(), claim.sequences.clone(), now.wall);
        view.set_retentions(shared.namespaces.retentions());
        for approval in approvals.extract_if(.., |one| shared.loop_of(one.shard) == who) {
            view.load_approval(approval);
        }
        recover(&mut view, &mut dispatcher, jobs, &claim.topics, now.wall);
        for Recovered { run, rest } in runs.extract_if(.., |one| shared.loop_of(one.run.shard) == who) {
            view.recover_run(&mut dispatcher, &run, rest);
        }
        shared.open_jobs[who].store(view.open_count() as u64, Ordering::Relaxed);
        // Counts restart with the view: look-ups made before are stale by definition.
        shared.departed[who].store(view.departed(), Ordering::Release);
        loops.push((view, who));
    }
    drop(dispatcher);
    for stay in shared.sessions.all() {
        stay.forget_reports();
    }
    let holders: Vec<SessionId> = loops.iter().flat_map(|(view, _)| view.lease_sessions()).collect();
    of_house.extend(loops.iter().flat_map(|(view, _)| view.house_sessions()));
    of_house.sort_unstable();
    of_house.dedup();
    sessions::restore(shared, claim.sessions);
    let orphans = shared.clone();
    tokio::spawn(async move {
        for session in of_house {
            house::give_back(&orphans, session, true).await;
        }
        sessions::end_orphans(&orphans, holders).await;
        if is_reload {
            // What waits for people under an older policy is asked anew. A start does so once it knows its policies.
            let _ = crate::policies::force::tell_all(&orphans).await;
        }
    });
    loops.into_iter().map(|(view, who)| ShardLoop::new(who, view, shared.clone(), claim.epoch)).collect()
}

/// Makes sure there is a key to sign tokens with: a row of the catalog, made once.
pub(crate) async fn ensure_secret(shared: &Arc<Shared>) -> Result<(), coretex_domain::Refusal> {
    if !shared.tokens().is_empty() {
        return Ok(());
    }
    let mut secret = [0u8; 32];
    secret[..16].copy_from_slice(&shared.env.dice.bits().to_le_bytes());
    secret[16..].copy_from_slice(&shared.env.dice.bits().to_le_bytes());
    let (answer, done) = oneshot::channel();
    shared.post_waiting(0, Mail::Rows(vec![Write::Secret(1, secret)], answer)).await?;
    done.await.unwrap_or_else(|_| {
        Err(coretex_domain::Refusal::new(
            coretex_domain::Reason::StoreUnavailable,
            "the store failed at start",
        ))
    })?;
    shared.set_tokens(Tokens::new(vec![(1, secret)]));
    Ok(())
}

/// Removes ended jobs past their retention. Sleeps until the next one is due; a new end may ring earlier.
pub(crate) async fn clean(shared: Arc<Shared>) {
    loop {
        let now = shared.env.clock.now();
        let pause = match shared.store.clean(now.wall, CLEAN_BATCH).await {
            Ok(cleaned) if cleaned.removed as usize >= CLEAN_BATCH => continue,
            Ok(cleaned) => cleaned.next_due.map(|at| at.since(now.wall).max(Span::secs(1))),
            Err(error) => {
                tracing::debug!(%error, "retention waits");
                Some(Span::secs(10))
            }
        };
        let soon = shared.clean_soon.notified();
        match pause {
            Some(pause) => {
                tokio::select! {
                    () = shared.env.clock.sleep_until(now.mono + pause) => {}
                    () = soon => {}
                }
            }
            None => soon.await,
        }
        // A burst of ends rings once.
        let until = shared.env.clock.now().mono + Span::secs(1);
        shared.env.clock.sleep_until(until).await;
    }
}
