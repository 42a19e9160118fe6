//! What one frame of a log holds: groups of writes, and the decisions they refer to.

use crate::decode::{decision_of, decode_job_log, find_decision, pairs_of};
use crate::encode::{Form, put_decision, put_job};
use crate::event::{entry_of, id_of};
use crate::intern::Interner;
use crate::{Damaged, VERSION, check_version, put, resource, row, wire};
use coretex_domain::job::{Job, StateKind};
use coretex_domain::policy::Decision;
use coretex_domain::{JobId, Namespace, SessionId, ShardId, Time};
use coretex_ports::memory::events::Standing;
use coretex_ports::{EventRow, Group, Write};
use prost::Message;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Writes one batch into a buffer: `begin`, any number of groups, `finish`.
#[derive(Default)]
pub struct BatchWriter {
    decisions: Vec<Arc<Decision>>,
    /// By address: alive as long as `decisions` holds them, and much cheaper than comparing texts.
    numbers: FxHashMap<usize, u32>,
}

/// One group as read from a log.
#[derive(Debug)]
pub struct LogGroup {
    pub time: Time,
    pub writes: Vec<LogWrite>,
}

/// One write as read from a log.
#[derive(Debug)]
pub enum LogWrite {
    Job(Box<LogJob>),
    Other(Write),
}

/// A job record as read from a log: whole, or a change of the record before it.
#[derive(Debug)]
pub struct LogJob {
    pub id: JobId,
    pub namespace: Namespace,
    record: wire::Job,
    decisions: Arc<[Arc<Decision>]>,
}

// === impl BatchWriter ===

impl BatchWriter {
    pub fn begin(&mut self, buf: &mut Vec<u8>) {
        self.decisions.clear();
        self.numbers.clear();
        put::uint(buf, 1, u64::from(VERSION));
    }

    /// Appends a group; `form` says how much of each job is written.
    pub fn put_group(
        &mut self,
        buf: &mut Vec<u8>,
        group: &Group,
        form: &mut dyn FnMut(&Arc<Job>, u32) -> Form,
    ) {
        put::nested(buf, 2, |buf| {
            put::uint(buf, 1, group.time.0);
            for write in &group.writes {
                put::nested(buf, 2, |buf| self.put_write(buf, write, form));
            }
        });
    }

    fn put_write(&mut self, buf: &mut Vec<u8>, write: &Write, form: &mut dyn FnMut(&Arc<Job>, u32) -> Form) {
        match write {
            Write::Job { job, fresh } => {
                let form = form(job, *fresh);
                put::nested(buf, 1, |buf| put_job(buf, job, form, &mut |d| Some(self.number(d))));
            }
            Write::Key(key) => put::nested(buf, 2, |buf| row::put_key(buf, key)),
            Write::DeadLetter(letter) => put::nested(buf, 3, |buf| row::put_dead_letter(buf, letter)),
            Write::DeadLetterEnd { namespace, job_id } => {
                put::nested(buf, 9, |buf| row::put_dead_letter_end(buf, namespace, job_id));
            }
            Write::Session(session) => put::nested(buf, 4, |buf| row::put_session(buf, session)),
            Write::SessionEnd(id) => put::nested(buf, 5, |buf| row::put_session_end(buf, *id)),
            Write::Topic(topic) => put::nested(buf, 6, |buf| row::put_topic(buf, topic)),
            Write::Secret(id, secret) => put::nested(buf, 7, |buf| row::put_secret(buf, *id, secret)),
            Write::Resource(one) => put::nested(buf, 10, |buf| resource::put_resource(buf, one)),
            Write::ResourceEnd(key) => put::nested(buf, 11, |buf| resource::put_resource_end(buf, key)),
            Write::Output { namespace, job_id, stream, offset, chunk } => {
                put::nested(buf, 8, |buf| row::put_output(buf, namespace, job_id, stream, *offset, chunk));
            }
        }
    }

    fn number(&mut self, decision: &Arc<Decision>) -> u32 {
        let decisions = &mut self.decisions;
        *self.numbers.entry(Arc::as_ptr(decision).addr()).or_insert_with(|| {
            decisions.push(decision.clone());
            decisions.len() as u32 - 1
        })
    }

    pub fn finish(&mut self, buf: &mut Vec<u8>) {
        for decision in &self.decisions {
            put::nested(buf, 3, |buf| put_decision(buf, decision));
        }
        self.decisions.clear();
        self.numbers.clear();
    }
}

/// Decodes what [`BatchWriter`] wrote.
pub fn decode_batch(bytes: &[u8], interner: &mut Interner) -> Result<Vec<LogGroup>, Damaged> {
    let batch = wire::Batch::decode(bytes)?;
    check_version(batch.version)?;
    let decisions: Result<Vec<_>, _> = batch.decisions.iter().map(|d| decision_of(d, interner)).collect();
    let decisions: Arc<[Arc<Decision>]> = decisions?.into();
    let mut groups = Vec::with_capacity(batch.groups.len());
    for group in batch.groups {
        let mut writes = Vec::with_capacity(group.writes.len());
        for write in group.writes {
            writes.push(write_of(write, &decisions, interner)?);
        }
        groups.push(LogGroup { time: Time(group.time), writes });
    }
    Ok(groups)
}

fn write_of(
    write: wire::Write,
    decisions: &Arc<[Arc<Decision>]>,
    interner: &mut Interner,
) -> Result<LogWrite, Damaged> {
    if let Some(record) = write.job {
        let namespace = Namespace::new(interner.text(&record.namespace));
        let id = id_of(record.id.as_ref())?;
        return Ok(LogWrite::Job(Box::new(LogJob { id, namespace, record, decisions: decisions.clone() })));
    }
    let other = if let Some(key) = write.key {
        Write::Key(Arc::new(row::key_of(&key, interner)?))
    } else if let Some(letter) = write.dead_letter {
        Write::DeadLetter(Arc::new(row::dead_letter_of(&letter, interner)?))
    } else if let Some(end) = write.dead_letter_end {
        row::dead_letter_end_of(&end, interner)?
    } else if let Some(session) = write.session {
        Write::Session(Arc::new(row::session_of(&session, interner)?))
    } else if let Some(id) = write.session_end {
        Write::SessionEnd(SessionId(u128::from(id.high) << 64 | u128::from(id.low)))
    } else if let Some(topic) = write.topic {
        Write::Topic(Arc::new(row::topic_of(&topic, interner)?))
    } else if let Some(secret) = write.secret {
        let (id, secret) = row::secret_of(&secret)?;
        Write::Secret(id, secret)
    } else if let Some(output) = write.output {
        row::output_of(&output, interner)?
    } else if let Some(one) = write.resource {
        Write::Resource(Arc::new(resource::resource_of(&one, interner)?))
    } else if let Some(end) = write.resource_end {
        Write::ResourceEnd(resource::key_of(&end, interner)?)
    } else {
        return Err(Damaged("write of an unknown kind".into()));
    };
    Ok(LogWrite::Other(other))
}

// === impl LogJob ===

impl LogJob {
    /// True if the record needs no job before it.
    pub fn is_whole(&self) -> bool {
        self.record.spec.is_some()
    }

    pub fn revision(&self) -> u64 {
        self.record.head.as_ref().map_or(0, |head| head.revision)
    }

    /// The job after this record.
    pub fn restore(&self, base: Option<&Job>, interner: &mut Interner) -> Result<Job, Damaged> {
        let find = |number: u32| self.decisions.get(number as usize).cloned();
        decode_job_log(&self.record, base, interner, &find)
    }

    /// Highest event sequence in the record.
    pub fn newest_seq(&self) -> u64 {
        self.record.entries.iter().map(|entry| entry.seq).max().unwrap_or(0)
    }

    pub fn shard(&self) -> ShardId {
        let shard = self.record.head.as_ref().map_or(0, |head| head.shard);
        ShardId(shard.to_le_bytes()[0])
    }

    /// Hands one row per fresh entry to `take`, oldest first; needs no job before it.
    pub fn event_rows(&self, interner: &mut Interner, mut take: impl FnMut(EventRow)) -> Result<(), Damaged> {
        let old = self.record.entries.len().saturating_sub(self.record.fresh as usize);
        let mut standing = Standing::default();
        let (topic, labels) = match (&self.record.spec, &self.record.prior) {
            (Some(spec), _) => (&spec.topic, spec.options.as_ref().map_or(&[][..], |o| &o.labels)),
            (None, Some(prior)) => (&prior.topic, &prior.labels[..]),
            (None, None) => return Err(Damaged(format!("change of job {} without its past", self.id))),
        };
        if let Some(prior) = &self.record.prior {
            standing.state = StateKind::from_number(prior.state);
            standing.attempts = prior.attempts;
            standing.worker_id = interner.opt_text(prior.worker_id.as_deref());
        }
        let (topic, labels) = (interner.text(topic), pairs_of(labels, interner));
        let head = self.record.head.as_ref();
        let find = |number: u32| self.decisions.get(number as usize).cloned();
        let decision = head.map(|head| find_decision(head, interner, &find)).transpose()?.flatten();
        let policy = decision.map(|decision| decision.policy.clone());
        let after = self.record.entries.len() as u64;
        for (n, entry) in self.record.entries.iter().enumerate() {
            let entry = entry_of(entry, interner)?;
            let from = standing.state;
            standing.take(&entry);
            if n < old {
                continue;
            }
            take(EventRow {
                shard: self.shard(),
                from,
                to: standing.state.unwrap_or(StateKind::Pending),
                attempt: standing.attempt(),
                worker_id: standing.worker_id.clone(),
                namespace: self.namespace.clone(),
                job_id: self.id.clone(),
                topic: topic.clone(),
                labels: labels.clone(),
                revision: (self.revision() + n as u64 + 1).saturating_sub(after),
                policy: policy.clone(),
                entry,
            });
        }
        Ok(())
    }
}
