//! Where a round puts jobs: a row for each open or remarkable one, packs for those that came to a plain end.

use super::pack::{self, Builder, Entry, Pack};
use super::write::Round;
use super::{damaged, id_bytes, int, seal, sql};
use coretex_domain::{Job, JobId};
use coretex_ports::StoreError;
use coretex_records::{Form, put_job};
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, params};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// A job with the part of its key that sorts it; looking into each job for every comparison would miss the cache.
pub(super) struct Filed<'a> {
    pub(super) create: u64,
    /// Orders made ids; names come in any order, they are few and far apart.
    pub(super) hint: u128,
    pub(super) job: &'a Arc<Job>,
}

/// The statements of a round, and the packs it is making, by namespace.
struct Shelf<'a> {
    connection: &'a Connection,
    insert: CachedStatement<'a>,
    delete: CachedStatement<'a>,
    move_to: CachedStatement<'a>,
    moved_from: CachedStatement<'a>,
    insert_pack: CachedStatement<'a>,
    packs: FxHashMap<i64, Builder>,
    bytes: Vec<u8>,
}

/// Where one job goes.
struct Slot {
    ns: i64,
    topic: i64,
    create: i64,
}

// === impl Filed ===

impl<'a> Filed<'a> {
    pub(super) fn new(job: &'a Arc<Job>) -> Filed<'a> {
        let hint = match &job.id {
            JobId::Made(uuid) => *uuid,
            JobId::Named(_) => u128::MAX,
        };
        Filed { create: job.create_time.0, hint, job }
    }

    /// The latest time the job tells.
    pub(super) fn latest(&self) -> u64 {
        self.create.max(self.job.update_time.0).max(self.job.end_time.map_or(0, |at| at.0))
    }
}

// === impl Round ===

impl Round<'_> {
    /// Files `jobs`, which are in key order. What was made after `fence` is not in the index yet; what ended after it
    /// is in no pack.
    pub(super) fn put_jobs(&mut self, jobs: &[Filed<'_>], fence: u64) -> Result<(), StoreError> {
        let transaction = self.transaction;
        let mut shelf = Shelf::new(transaction)?;
        for filed in jobs {
            let job = filed.job;
            let ns = self.name(job.namespace.as_str())?;
            let topic = self.name(&job.spec.topic)?;
            let slot = Slot { ns, topic, create: int(filed.create) };
            self.record.clear();
            let decisions = &mut *self.decisions;
            put_job(self.record, job, Form::Whole { fresh: 0 }, &mut |d| decisions.number(d));
            let was_ended = job.end_time.is_some_and(|end| end.0 <= fence);
            if was_ended {
                shelf.unpack(&slot, job)?;
            }
            if pack::is_packable(job) && !was_ended && self.record.len() <= pack::RECORD_MAX {
                let may_have_row = filed.create <= fence;
                shelf.pack(&slot, job, filed.hint, self.record, may_have_row)?;
            } else {
                seal(self.record);
                shelf.put_row(&slot, job, self.record)?;
            }
        }
        shelf.finish()?;
        self.store_decisions()
    }
}

// === impl Shelf ===

impl<'a> Shelf<'a> {
    fn new(connection: &'a Connection) -> Result<Shelf<'a>, StoreError> {
        let prepare = |text: &str| connection.prepare_cached(text).map_err(sql);
        Ok(Shelf {
            connection,
            insert: prepare(
                "INSERT OR REPLACE INTO jobs(ns, create_ms, id, state, topic, expire_ms, record) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?,
            delete: prepare("DELETE FROM jobs WHERE ns = ?1 AND create_ms = ?2 AND id = ?3")?,
            move_to: prepare("INSERT OR REPLACE INTO moved(ns, id, create_ms) VALUES(?1, ?2, ?3)")?,
            moved_from: prepare("SELECT create_ms FROM moved WHERE ns = ?1 AND id = ?2")?,
            insert_pack: prepare(INSERT_PACK)?,
            packs: FxHashMap::default(),
            bytes: Vec::new(),
        })
    }

    fn put_row(&mut self, slot: &Slot, job: &Job, record: &[u8]) -> Result<(), StoreError> {
        let Slot { ns, topic, create } = *slot;
        let id = id_bytes(&job.id);
        if job.id.made_at_ms() != Some(job.create_time.0) {
            let before: Option<i64> =
                self.moved_from.query_row(params![ns, id], |row| row.get(0)).optional().map_err(sql)?;
            if before != Some(create) {
                if let Some(before) = before {
                    self.delete.execute(params![ns, before, id]).map_err(sql)?;
                }
                self.move_to.execute(params![ns, id, create]).map_err(sql)?;
            }
        }
        let expire = job.expire_time.map(|t| int(t.0));
        let state = job.state.kind() as u32;
        self.insert.execute(params![ns, create, id, state, topic, expire, record]).map_err(sql)?;
        Ok(())
    }

    fn pack(
        &mut self,
        slot: &Slot,
        job: &Job,
        uuid: u128,
        record: &[u8],
        may_have_row: bool,
    ) -> Result<(), StoreError> {
        if may_have_row {
            self.delete.execute(params![slot.ns, slot.create, id_bytes(&job.id)]).map_err(sql)?;
        }
        let builder = self.packs.entry(slot.ns).or_default();
        if !builder.has_room(slot.create) {
            put_pack(&mut self.insert_pack, slot.ns, builder, &mut self.bytes)?;
        }
        let expire = job.expire_time.map_or(i64::MAX, |at| int(at.0));
        let state = job.state.kind() as u8;
        builder.push(Entry::new(slot.create, uuid, slot.topic, state, expire), record);
        Ok(())
    }

    /// Takes a job that changed after its end out of its pack, if it is in one.
    fn unpack(&mut self, slot: &Slot, job: &Job) -> Result<(), StoreError> {
        let JobId::Made(uuid) = job.id else { return Ok(()) };
        let Some((number, pack)) = find_pack(self.connection, slot.ns, slot.create, uuid)? else {
            return Ok(());
        };
        let mut rest = pack.retain(|entry| entry.uuid != uuid);
        replace_pack(self.connection, number, &mut rest, &mut self.bytes)
    }

    fn finish(mut self) -> Result<(), StoreError> {
        for (ns, mut builder) in std::mem::take(&mut self.packs) {
            put_pack(&mut self.insert_pack, ns, &mut builder, &mut self.bytes)?;
        }
        Ok(())
    }
}

const INSERT_PACK: &str =
    "INSERT INTO packs(ns, first_ms, last_ms, expire_ms, count, record) VALUES(?1, ?2, ?3, ?4, ?5, ?6)";

fn put_pack(
    insert: &mut CachedStatement<'_>,
    ns: i64,
    builder: &mut Builder,
    bytes: &mut Vec<u8>,
) -> Result<(), StoreError> {
    if builder.is_empty() {
        return Ok(());
    }
    let told = builder.finish(bytes);
    let columns = params![ns, told.first_ms, told.last_ms, told.expire_ms, told.count, &bytes[..]];
    insert.execute(columns).map(|_| ()).map_err(sql)
}

/// Puts `rest` in the place of a pack, or nothing if nothing is left.
pub(super) fn replace_pack(
    connection: &Connection,
    number: i64,
    rest: &mut Builder,
    bytes: &mut Vec<u8>,
) -> Result<(), StoreError> {
    let prepare = |text: &str| connection.prepare_cached(text).map_err(sql);
    if rest.is_empty() {
        let mut delete = prepare("DELETE FROM packs WHERE number = ?1")?;
        return delete.execute([number]).map(|_| ()).map_err(sql);
    }
    let told = rest.finish(bytes);
    let mut update = prepare(
        "UPDATE packs SET first_ms = ?2, last_ms = ?3, expire_ms = ?4, count = ?5, record = ?6 WHERE number = ?1",
    )?;
    let columns = params![number, told.first_ms, told.last_ms, told.expire_ms, told.count, &bytes[..]];
    update.execute(columns).map(|_| ()).map_err(sql)
}

/// The pack that holds a job, and its number.
pub(super) fn find_pack(
    connection: &Connection,
    ns: i64,
    create_ms: i64,
    uuid: u128,
) -> Result<Option<(i64, Pack)>, StoreError> {
    let text =
        "SELECT number, record FROM packs WHERE ns = ?1 AND first_ms BETWEEN ?2 AND ?3 AND last_ms >= ?3";
    let mut statement = connection.prepare_cached(text).map_err(sql)?;
    let from = create_ms.saturating_sub(pack::SPAN_MAX_MS);
    let mut rows = statement.query(params![ns, from, create_ms]).map_err(sql)?;
    while let Some(row) = rows.next().map_err(sql)? {
        let bytes = row.get_ref(1).and_then(|value| Ok(value.as_blob()?)).map_err(sql)?;
        let pack = Pack::read(bytes).map_err(|e| damaged("packs", e))?;
        if pack.find(create_ms, uuid).is_some() {
            return Ok(Some((row.get(0).map_err(sql)?, pack)));
        }
    }
    Ok(None)
}
