//! The reference model of one job: a second telling of its life, far from the kernel's, run in lock-step.

use coretex_domain::job::spec::{RetryPolicy, Timeouts};
use coretex_domain::job::{Close, Closed, Entry, Event, Job};
use coretex_domain::policy::Constraints;
use coretex_domain::topic::Topic;
use coretex_domain::{Span, Time};
use std::sync::Arc;

const LOST_MAX: u32 = 3;
const DELIVERIES_MAX: u32 = 16;
const ATTEMPTS_DEFAULT: u32 = 3;

/// What the model knows of a job.
#[derive(Clone, Debug, Default)]
pub(super) struct Life {
    pub(super) attempts: u32,
    pub(super) lost: u32,
    pub(super) released: u32,
    pub(super) deliveries: u32,
    pub(super) serial: u32,
    pub(super) lease: Option<u32>,
    has_started: bool,
    started: Time,
    newest: Time,
    not_before: Time,
    pub(super) cancel: Option<Time>,
    pub(super) is_over: bool,
}

/// The job and every row its topic ever had: a decision is right if one of them makes it so.
pub(super) struct Setting<'a> {
    pub(super) job: &'a Job,
    pub(super) rows: &'a [(u64, Arc<Topic>)],
    /// What the policy allowed when the job was last written, and now.
    pub(super) caps: [Option<&'a Constraints>; 2],
}

impl Setting<'_> {
    fn any(&self, mut fits: impl FnMut(&RetryPolicy, &Timeouts) -> bool) -> bool {
        let own = self.job.spec.options();
        let mut fits_capped = |retry: &RetryPolicy, timeouts: &Timeouts| {
            self.caps.iter().any(|caps| {
                let (retry, timeouts) = capped(*caps, retry, timeouts);
                fits(&retry, &timeouts)
            })
        };
        fits_capped(&own.retry, &own.timeouts)
            || self.rows.iter().any(|(_, row)| {
                fits_capped(&own.retry.or(&row.settings.retry), &own.timeouts.or(&row.settings.timeouts))
            })
    }
}

/// What is left of tries and time under the constraints of a rule.
fn capped(caps: Option<&Constraints>, retry: &RetryPolicy, timeouts: &Timeouts) -> (RetryPolicy, Timeouts) {
    let (mut retry, mut timeouts) = (retry.clone(), timeouts.clone());
    let Some(Constraints { budgets, .. }) = caps else { return (retry, timeouts) };
    if let Some(retries) = budgets.max_retries {
        retry.max_attempts = Some(retry.max_attempts.unwrap_or(ATTEMPTS_DEFAULT).min(retries + 1));
    }
    if let Some(most) = budgets.max_runtime {
        timeouts.start_to_close = Some(timeouts.start_to_close.unwrap_or(Span::hours(1)).min(most));
    }
    (retry, timeouts)
}

type Verdict = Result<(), (&'static str, String)>;

fn wrong<T>(promise: &'static str, what: impl Into<String>) -> Result<T, (&'static str, String)> {
    Err((promise, what.into()))
}

impl Life {
    /// One more line of history: is it what must or may happen now?
    pub(super) fn live(&mut self, entry: &Entry, on: &Setting<'_>) -> Verdict {
        let time = entry.time;
        if time < self.newest {
            return wrong("I-22", format!("history goes back in time, from {:?} to {time:?}", self.newest));
        }
        self.newest = time;
        if self.is_over && !matches!(entry.event, Event::Annotated(_)) {
            return wrong("I-02", format!("{} after the end", entry.event.kind().name()));
        }
        match &entry.event {
            Event::Submitted { .. } | Event::Annotated(_) | Event::Deferred(_) | Event::Rejudged => Ok(()),
            Event::ApprovalRequested | Event::ApprovalVoided(_) => Ok(()),
            Event::Admitted { place } | Event::Approved { place, .. } => self.admitted(*place, on),
            Event::RetryDue { place } => {
                if time < self.not_before {
                    return wrong("I-21", format!("a retry came {:?} early", self.not_before.since(time)));
                }
                self.not_before = Time(place >> 20);
                Ok(())
            }
            Event::Dispatched(lease) => self.leased(lease.serial, time),
            Event::Started => self.began(time),
            Event::Returned(why) => {
                self.unstarted("returned")?;
                self.deliveries += 1;
                self.lease = None;
                match self.deliveries < DELIVERIES_MAX {
                    true => Ok(()),
                    false => {
                        wrong("I-11", format!("offered again after {} deliveries ({why:?})", self.deliveries))
                    }
                }
            }
            Event::Released => {
                self.begun("released")?;
                self.released += 1;
                self.close();
                Ok(())
            }
            Event::Succeeded => self.ended_running("succeeded"),
            Event::AttemptFailed(closed) => self.failed_once(&closed.0, time, closed.1, on),
            Event::Failed(closed) => self.failed_for_good(closed, on),
            Event::TimedOut { total } => self.timed_out(*total, time, on),
            Event::Expired => self.expired(time, on),
            Event::Denied(_) => self.over(),
            Event::CancelRequested(cancel) => {
                self.cancel = Some(cancel.time);
                Ok(())
            }
            Event::Cancelled(wish) => self.cancelled(wish.is_some()),
        }
    }

    /// Who wanted it is said once: before, or with it.
    fn cancelled(&mut self, is_said: bool) -> Verdict {
        self.close();
        self.is_over = true;
        match self.cancel.is_some() == is_said {
            true => wrong("I-17", format!("cancelled, and its wish is said twice or never ({is_said})")),
            false => Ok(()),
        }
    }

    fn close(&mut self) {
        self.lease = None;
        self.has_started = false;
    }

    fn over(&mut self) -> Verdict {
        self.close();
        self.is_over = true;
        match self.cancel {
            Some(_) => wrong("I-13", "ended otherwise than CANCELLED after a cancel"),
            None => Ok(()),
        }
    }

    fn admitted(&mut self, place: u64, on: &Setting<'_>) -> Verdict {
        let ready = Time(place >> 20);
        let wanted = on.job.spec.options().schedule_time.unwrap_or(Time(0));
        if ready < wanted && self.attempts == 0 {
            return wrong("I-21", format!("ready at {ready:?}, asked for not before {wanted:?}"));
        }
        self.not_before = ready;
        Ok(())
    }

    fn leased(&mut self, serial: u32, time: Time) -> Verdict {
        if self.lease.is_some() {
            return wrong("I-08", "leased while a lease is open");
        }
        if serial != self.serial + 1 {
            return wrong("I-08", format!("lease {serial} after lease {}", self.serial));
        }
        if self.cancel.is_some() {
            return wrong("I-13", "leased after a cancel");
        }
        if time < self.not_before {
            return wrong("I-21", format!("leased {:?} before it was ready", self.not_before.since(time)));
        }
        self.serial = serial;
        self.lease = Some(serial);
        Ok(())
    }

    fn began(&mut self, time: Time) -> Verdict {
        self.unstarted("started")?;
        self.has_started = true;
        self.attempts += 1;
        self.deliveries = 0;
        self.started = time;
        Ok(())
    }

    fn unstarted(&self, what: &str) -> Verdict {
        match self.lease.is_some() && !self.has_started {
            true => Ok(()),
            false => wrong("I-07", format!("{what} without an unstarted lease")),
        }
    }

    fn begun(&self, what: &str) -> Verdict {
        match self.has_started {
            true => Ok(()),
            false => wrong("I-07", format!("{what} without a started attempt")),
        }
    }

    fn ended_running(&mut self, what: &str) -> Verdict {
        self.begun(what)?;
        self.over()
    }

    fn spent(&self) -> u32 {
        self.attempts - self.lost - self.released
    }

    fn has_tries(&self, policy: &RetryPolicy) -> bool {
        self.spent() < policy.max_attempts.unwrap_or(ATTEMPTS_DEFAULT)
    }

    fn failed_once(&mut self, closed: &Closed, time: Time, due: Time, on: &Setting<'_>) -> Verdict {
        self.begun("failed")?;
        if self.cancel.is_some() {
            return wrong("I-13", "to be tried again after a cancel");
        }
        if closed.close == Close::WorkerLost {
            self.lost += 1;
        }
        let may = match closed.close {
            Close::NonRetryable | Close::Undeliverable | Close::OverBudget => false,
            Close::WorkerLost => self.lost < LOST_MAX && on.any(|retry, _| self.has_tries(retry)),
            Close::Failed | Close::TimedOut | Close::Stalled => on.any(|retry, _| self.has_tries(retry)),
        };
        if !may {
            let (attempts, lost, released) = (self.attempts, self.lost, self.released);
            return wrong(
                "I-11",
                format!("tried again after {attempts} attempts, {lost} lost, {released} released"),
            );
        }
        self.in_time(closed.close, time, on)?;
        if !matches!(closed.close, Close::Failed) {
            let n = self.attempts - self.released;
            let wait = due.since(time);
            if !on.any(|retry, _| bounds(retry, n).contains(&wait)) {
                return wrong("I-11", format!("backoff {wait:?} after failure {n} is out of bounds"));
            }
        }
        self.not_before = due;
        self.close();
        Ok(())
    }

    /// A timeout must not close an attempt early.
    fn in_time(&self, close: Close, time: Time, on: &Setting<'_>) -> Verdict {
        let started = self.started;
        let is_due = match close {
            Close::TimedOut => on.any(|_, t| time >= started + t.start_to_close.unwrap_or(Span::hours(1))),
            Close::Stalled => on.any(|_, t| t.stall.is_some_and(|span| time >= started + span)),
            Close::Failed
            | Close::NonRetryable
            | Close::WorkerLost
            | Close::Undeliverable
            | Close::OverBudget => true,
        };
        if is_due { Ok(()) } else { wrong("I-21", format!("closed as {close:?} too early")) }
    }

    fn failed_for_good(&mut self, closed: &Closed, on: &Setting<'_>) -> Verdict {
        let may = match closed.close {
            Close::NonRetryable | Close::OverBudget => self.has_started,
            Close::Undeliverable => {
                self.deliveries += 1;
                self.lease.is_some() && !self.has_started && self.deliveries >= DELIVERIES_MAX
            }
            Close::WorkerLost => {
                self.lost += 1;
                self.has_started && (self.lost >= LOST_MAX || on.any(|retry, _| !self.has_tries(retry)))
            }
            Close::Failed | Close::TimedOut | Close::Stalled => {
                self.has_started && on.any(|retry, _| !self.has_tries(retry))
            }
        };
        if !may {
            return wrong("I-11", format!("given up as {:?} with tries left: {self:?}", closed.close));
        }
        self.over()
    }

    fn timed_out(&mut self, is_total: bool, time: Time, on: &Setting<'_>) -> Verdict {
        let created = on.job.create_time;
        if is_total {
            if !on.any(|_, t| t.total.is_some_and(|span| time >= created + span)) {
                return wrong("I-21", "the total deadline fired early or without being set");
            }
        } else {
            self.begun("timed out")?;
            self.in_time(Close::TimedOut, time, on)?;
            if !on.any(|retry, _| !self.has_tries(retry)) {
                return wrong("I-11", "timed out for good with tries left");
            }
        }
        self.over()
    }

    fn expired(&mut self, time: Time, on: &Setting<'_>) -> Verdict {
        let from = on.job.spec.options().schedule_time.unwrap_or(Time(0)).max(on.job.create_time);
        if self.attempts > 0 || !on.any(|_, t| t.schedule_to_start.is_some_and(|span| time >= from + span)) {
            return wrong("I-21", format!("expired early or after a start ({} attempts)", self.attempts));
        }
        self.over()
    }
}

/// The least and most a wait after failure `n` may be.
fn bounds(retry: &RetryPolicy, n: u32) -> std::ops::RangeInclusive<Span> {
    let initial = retry.initial_backoff.map_or(1_000, |s| s.0);
    let cap = retry.max_backoff.map_or(300_000, |s| s.0) as f64;
    let mut base = initial as f64;
    for _ in 1..n.max(1) {
        base *= retry.multiplier.unwrap_or(2.0);
    }
    let base = base.min(cap);
    let jitter = retry.jitter.unwrap_or(0.2).max(0.1);
    Span((base - 1.0).max(0.0) as u64)..=Span((base * (1.0 + jitter) + 1.0) as u64)
}
