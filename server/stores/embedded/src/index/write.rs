//! One round: everything in a sealed generation goes into the index in one transaction with its watermark.

use super::jobs::Filed;
use super::{damaged, id_bytes, int, place_bytes, put_meta, seal, sealed, sql, unsealed};
use crate::overlay::{Jobs, Outputs, Sealed, Side};
use coretex_domain::policy::Decision;
use coretex_domain::resource::Resource;
use coretex_domain::{JobId, JobKey, Namespace};
use coretex_ports::StoreError;
use coretex_records::{Interner, decode, encode, resource, row, wire};
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, Statement, Transaction, params};
use rustc_hash::FxHashMap;
use std::sync::{Arc, PoisonError, RwLockReadGuard};

/// Decisions shared by reference; a policy that answers each job differently has them inline instead.
const DECISIONS_MAX: usize = 4_096;
/// Names remembered; beyond it they are looked up.
const NAMES_MAX: usize = 65_536;

/// The one writer of the index.
pub(crate) struct Writer {
    pub(crate) connection: Connection,
    names: FxHashMap<Arc<str>, i64>,
    decisions: Decisions,
    record: Vec<u8>,
    /// No job in the index was made, changed or ended later, milliseconds.
    fence: u64,
}

/// What a round has put into the index.
pub(crate) struct Written {
    pub(crate) rows: u64,
    /// The latest time that the id of one of its jobs tells, milliseconds.
    pub(crate) newest_made: u64,
}

#[derive(Default)]
pub(super) struct Decisions {
    /// By address of the value, which `known` keeps alive.
    by_address: FxHashMap<usize, u32>,
    known: Vec<Arc<Decision>>,
    /// Known, but not in the table yet.
    stored: usize,
}

impl Decisions {
    pub(super) fn number(&mut self, decision: &Arc<Decision>) -> Option<u32> {
        if let Some(number) = self.by_address.get(&Arc::as_ptr(decision).addr()) {
            return Some(*number);
        }
        // Most stores know a handful; a store with thousands pays a scan only for decisions it has not met.
        if let Some(number) = self.known.iter().position(|known| known == decision) {
            return Some(number as u32);
        }
        if self.known.len() >= DECISIONS_MAX {
            return None;
        }
        let number = self.known.len() as u32;
        self.known.push(decision.clone());
        self.by_address.insert(Arc::as_ptr(decision).addr(), number);
        Some(number)
    }
}

// === impl Writer ===

impl Writer {
    pub(crate) fn new(connection: Connection) -> Result<Writer, StoreError> {
        let mut decisions = Decisions::default();
        let mut interner = Interner::default();
        let mut statement =
            connection.prepare("SELECT number, record FROM decisions ORDER BY number").map_err(sql)?;
        let mut rows = statement.query([]).map_err(sql)?;
        while let Some(row) = rows.next().map_err(sql)? {
            let (number, record): (i64, Vec<u8>) = (row.get(0).map_err(sql)?, row.get(1).map_err(sql)?);
            if number != int(decisions.known.len() as u64) {
                return Err(damaged("decisions", format_args!("number {number} is out of line")));
            }
            let record = unsealed(&record).map_err(|e| damaged("decisions", e))?;
            let wire = wire::Decision::decode(record).map_err(|e| damaged("decisions", e))?;
            let decision = decode::decision_of(&wire, &mut interner).map_err(|e| damaged("decisions", e))?;
            decisions.known.push(decision);
        }
        drop(rows);
        drop(statement);
        decisions.stored = decisions.known.len();
        let fence = super::fence(&connection)?;
        Ok(Writer { connection, names: FxHashMap::default(), decisions, record: Vec::new(), fence })
    }

    /// Writes one sealed generation. Nothing of it is visible unless all of it is.
    pub(crate) fn round(&mut self, sealed_rows: &Sealed) -> Result<Written, StoreError> {
        let generation = &sealed_rows.generation;
        let parts: Vec<_> =
            generation.parts.iter().map(|part| part.read().unwrap_or_else(PoisonError::into_inner)).collect();
        let side = generation.side.read().unwrap_or_else(PoisonError::into_inner);
        let mut jobs: Vec<Filed<'_>> = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        jobs.extend(parts.iter().flat_map(|part| part.values()).map(Filed::new));
        // In key order: neighbours share a page, and new rows go to its end.
        jobs.sort_unstable_by_key(|filed| (filed.create, filed.hint));
        let transaction = self.connection.transaction().map_err(sql)?;
        let mut round = Round {
            transaction: &transaction,
            names: &mut self.names,
            decisions: &mut self.decisions,
            record: &mut self.record,
        };
        let outcome = round.put_jobs(&jobs, self.fence).and_then(|()| round.put_side(&side, &parts));
        let fence = jobs.iter().map(Filed::latest).max().unwrap_or(0).max(self.fence);
        let outcome =
            outcome.and_then(|()| put_meta(&transaction, "place", &sealed(place_bytes(&sealed_rows.end))));
        let outcome =
            outcome.and_then(|()| put_meta(&transaction, "fence", &sealed(fence.to_le_bytes().to_vec())));
        let outcome = outcome.and_then(|()| transaction.commit().map_err(sql));
        if let Err(e) = outcome {
            // Numbers given in a transaction that never was must not be used again from memory.
            self.names.clear();
            self.decisions.known.truncate(self.decisions.stored);
            self.decisions.by_address.clear();
            return Err(e);
        }
        self.fence = fence;
        self.decisions.stored = self.decisions.known.len();
        if self.names.len() > NAMES_MAX {
            self.names.clear();
        }
        let newest_made = jobs.iter().filter_map(|filed| filed.job.id.made_at_ms()).max();
        Ok(Written { rows: jobs.len() as u64, newest_made: newest_made.unwrap_or(0) })
    }

    /// The latest time that the id of any job in the index tells.
    pub(crate) fn newest_made(&self) -> Result<u64, StoreError> {
        // An id tells the time its job is filed under, except for those in `moved`, where it is the first six bytes.
        // No last create time of a pack lies further from its first, and the index over packs begins with the first.
        let span = super::pack::SPAN_MAX_MS;
        let text = format!(
            "SELECT max(coalesce((SELECT max(create_ms) FROM jobs WHERE ns = n.number), 0),
                        coalesce((SELECT max(first_ms) FROM packs WHERE ns = n.number) + {span}, 0)),
                    (SELECT max(id) FROM moved WHERE ns = n.number AND id < x'01') FROM names n"
        );
        let mut statement = self.connection.prepare(&text).map_err(sql)?;
        let mut rows = statement.query([]).map_err(sql)?;
        let mut newest = 0;
        while let Some(row) = rows.next().map_err(sql)? {
            let (filed, moved): (Option<i64>, Option<Vec<u8>>) =
                (row.get(0).map_err(sql)?, row.get(1).map_err(sql)?);
            let filed = filed.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(0);
            let moved = moved.as_deref().and_then(|id| id.get(1..7)).unwrap_or_default();
            let moved = moved.iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte));
            newest = newest.max(filed).max(moved);
        }
        Ok(newest)
    }

    /// Bytes in pages that hold something, the write-ahead part included.
    pub(crate) fn used(&self) -> Result<u64, StoreError> {
        let pragma = |name: &str| -> Result<i64, StoreError> {
            self.connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0)).map_err(sql)
        };
        let pages = pragma("page_count")? - pragma("freelist_count")?;
        Ok(u64::try_from(pages * pragma("page_size")?).unwrap_or(0))
    }

    /// Moves the write-ahead part into the file and syncs both. True if nothing was left out.
    pub(crate) fn checkpoint(&self) -> Result<bool, StoreError> {
        let mode = "PRAGMA wal_checkpoint(TRUNCATE)";
        let (busy, log, moved): (i64, i64, i64) =
            self.connection.query_row(mode, [], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).map_err(sql)?;
        Ok(busy == 0 && log == moved)
    }
}

/// The state of a round in progress.
pub(super) struct Round<'a> {
    pub(super) transaction: &'a Transaction<'a>,
    names: &'a mut FxHashMap<Arc<str>, i64>,
    pub(super) decisions: &'a mut Decisions,
    pub(super) record: &'a mut Vec<u8>,
}

impl Round<'_> {
    pub(super) fn store_decisions(&mut self) -> Result<(), StoreError> {
        for (number, decision) in self.decisions.known.iter().enumerate().skip(self.decisions.stored) {
            self.record.clear();
            encode::put_decision(self.record, decision);
            seal(self.record);
            self.transaction
                .prepare_cached("INSERT INTO decisions(number, record) VALUES(?1, ?2)")
                .and_then(|mut s| s.execute(params![int(number as u64), &self.record[..]]))
                .map_err(sql)?;
        }
        Ok(())
    }

    /// The number of a namespace or topic.
    pub(super) fn name(&mut self, name: &str) -> Result<i64, StoreError> {
        if let Some(number) = self.names.get(name) {
            return Ok(*number);
        }
        let mut find =
            self.transaction.prepare_cached("SELECT number FROM names WHERE name = ?1").map_err(sql)?;
        let known: Option<i64> = find.query_row([name], |row| row.get(0)).optional().map_err(sql)?;
        let number = match known {
            Some(number) => number,
            None => {
                let mut insert =
                    self.transaction.prepare_cached("INSERT INTO names(name) VALUES(?1)").map_err(sql)?;
                insert.insert([name]).map_err(sql)?
            }
        };
        self.names.insert(name.into(), number);
        Ok(number)
    }

    fn sealed(&mut self, put: impl FnOnce(&mut Vec<u8>)) -> &[u8] {
        self.record.clear();
        put(self.record);
        seal(self.record);
        self.record
    }

    fn put_side(&mut self, side: &Side, parts: &[RwLockReadGuard<'_, Jobs>]) -> Result<(), StoreError> {
        let transaction = self.transaction;
        let prepare = |text: &str| transaction.prepare_cached(text).map_err(sql);
        let mut keys: Vec<_> = side.keys.values().collect();
        keys.sort_unstable_by(|a, b| (&a.namespace, &a.key).cmp(&(&b.namespace, &b.key)));
        if !keys.is_empty() {
            let mut insert =
                prepare("INSERT OR REPLACE INTO keys(ns, key, job, record) VALUES(?1, ?2, ?3, ?4)")?;
            for key in keys {
                let ns = self.name(key.namespace.as_str())?;
                let record = self.sealed(|buf| row::put_key(buf, key));
                insert.execute(params![ns, &*key.key, id_bytes(&key.job_id), record]).map_err(sql)?;
            }
        }
        for (key, letter) in &side.dead {
            let ns = self.name(letter.namespace.as_str())?;
            let id = id_bytes(&letter.job_id);
            let Some(create) = create_of(transaction, parts, *key, ns, &letter.namespace, &letter.job_id)?
            else {
                continue;
            };
            let record = self.sealed(|buf| row::put_dead_letter(buf, letter));
            prepare("INSERT OR REPLACE INTO dead_letters(ns, create_ms, id, record) VALUES(?1, ?2, ?3, ?4)")?
                .execute(params![ns, create, id, record])
                .map_err(sql)?;
        }
        for (key, (namespace, id)) in &side.dead_ended {
            let ns = self.name(namespace.as_str())?;
            let Some(create) = create_of(transaction, parts, *key, ns, namespace, id)? else { continue };
            prepare("DELETE FROM dead_letters WHERE ns = ?1 AND create_ms = ?2 AND id = ?3")?
                .execute(params![ns, create, id_bytes(id)])
                .map_err(sql)?;
        }
        for outputs in side.outputs.values() {
            let insert =
                "INSERT OR REPLACE INTO outputs(ns, id, stream, position, chunk) VALUES(?1, ?2, ?3, ?4, ?5)";
            self.put_outputs(&mut *prepare(insert)?, outputs)?;
        }
        self.put_catalog(side)
    }

    fn put_outputs(&mut self, insert: &mut Statement<'_>, outputs: &Outputs) -> Result<(), StoreError> {
        let ns = self.name(outputs.namespace.as_str())?;
        let id = id_bytes(&outputs.job_id);
        for ((stream, offset), chunk) in &outputs.chunks {
            let chunk = self.sealed(|buf| buf.extend_from_slice(chunk));
            insert.execute(params![ns, id, &**stream, int(*offset), chunk]).map_err(sql)?;
        }
        Ok(())
    }

    fn put_catalog(&mut self, side: &Side) -> Result<(), StoreError> {
        let transaction = self.transaction;
        let prepare = |text: &str| transaction.prepare_cached(text).map_err(sql);
        for (id, session) in &side.sessions {
            let id = id.0.to_be_bytes();
            match session {
                Some(session) => {
                    let record = self.sealed(|buf| row::put_session(buf, session));
                    prepare("INSERT OR REPLACE INTO sessions(id, record) VALUES(?1, ?2)")?
                        .execute(params![&id[..], record])
                        .map_err(sql)?;
                }
                None => {
                    prepare("DELETE FROM sessions WHERE id = ?1")?.execute([&id[..]]).map_err(sql)?;
                }
            }
        }
        for topic in side.topics.values() {
            let ns = self.name(topic.namespace.as_str())?;
            let record = self.sealed(|buf| row::put_topic(buf, topic));
            prepare("INSERT OR REPLACE INTO topics(ns, name, record) VALUES(?1, ?2, ?3)")?
                .execute(params![ns, &*topic.name, record])
                .map_err(sql)?;
        }
        for (key, one) in &side.resources {
            let ns = self.name(key.namespace.as_str())?;
            match one {
                Some(one) => self.put_resource(ns, one)?,
                None => {
                    prepare("DELETE FROM resources WHERE kind = ?1 AND ns = ?2 AND name = ?3")?
                        .execute(params![key.kind as i64, ns, &*key.name])
                        .map_err(sql)?;
                }
            }
        }
        for (id, secret) in &side.secrets {
            let record = self.sealed(|buf| row::put_secret(buf, *id, secret));
            prepare("INSERT OR REPLACE INTO secrets(id, record) VALUES(?1, ?2)")?
                .execute(params![*id, record])
                .map_err(sql)?;
        }
        Ok(())
    }
}

impl Round<'_> {
    fn put_resource(&mut self, ns: i64, one: &Resource) -> Result<(), StoreError> {
        let transaction = self.transaction;
        let record = self.sealed(|buf| resource::put_resource(buf, one));
        transaction
            .prepare_cached(
                "INSERT OR REPLACE INTO resources(kind, ns, name, create_ms, live, expire_ms, record)
                 VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )
            .and_then(|mut statement| {
                let expire = one.expire_time.map(|time| int(time.0));
                let kind = one.kind as i64;
                let create = int(one.create_time.0);
                statement.execute(params![kind, ns, &*one.name, create, one.is_live, expire, record])
            })
            .map(|_| ())
            .map_err(sql)
    }
}

/// Create time of the job a dead letter names, from the same generation or from the index.
fn create_of(
    transaction: &Transaction<'_>,
    parts: &[RwLockReadGuard<'_, Jobs>],
    key: JobKey,
    ns: i64,
    namespace: &Namespace,
    id: &JobId,
) -> Result<Option<i64>, StoreError> {
    let known = parts.iter().find_map(|part| part.get(&key));
    if let Some(job) = known.filter(|job| job.id == *id && job.namespace == *namespace) {
        return Ok(Some(int(job.create_time.0)));
    }
    super::read::create_ms(transaction, ns, id)
}
