//! Records of jobs back into jobs, compared with what stands beside them.

use super::pack::Entry;
use super::{damaged, id_bytes, int, sql, unsealed};
use coretex_domain::policy::Decision;
use coretex_domain::{Job, RunId};
use coretex_ports::StoreError;
use coretex_records::{Interner, decode, decode_job, wire};
use prost::Message as _;
use rusqlite::{Connection, Row};
use rustc_hash::FxHashMap;
use std::cell::RefCell;
use std::sync::Arc;

/// What decoding a record needs besides its bytes.
pub(super) struct Decoder<'a> {
    pub(super) connection: &'a Connection,
    pub(super) interner: &'a mut Interner,
    /// Those met so far, by number.
    pub(super) decisions: &'a RefCell<FxHashMap<u32, Arc<Decision>>>,
}

// === impl Decoder ===

impl Decoder<'_> {
    /// Decodes a job row and checks that its columns say what its record says.
    pub(super) fn row(&mut self, row: &Row<'_>) -> Result<Job, StoreError> {
        let bytes = row.get_ref(6).and_then(|value| Ok(value.as_blob()?)).map_err(sql)?;
        let job = self.record(unsealed(bytes).map_err(|e| damaged("jobs", e))?, "jobs")?;
        let told = (row.get(1), row.get(2), row.get(3), row.get(5));
        let told = (told.0.map_err(sql)?, told.1.map_err(sql)?, told.2.map_err(sql)?, told.3.map_err(sql)?);
        check(&job, told, "jobs")?;
        Ok(job)
    }

    /// The same for a job of a pack, whose checksum is that of the pack.
    pub(super) fn packed(&mut self, entry: &Entry, record: &[u8]) -> Result<Job, StoreError> {
        let job = self.record(record, "packs")?;
        check(&job, (entry.create_ms, entry.id(), entry.state.into(), Some(entry.expire_ms)), "packs")?;
        Ok(job)
    }

    fn record(&mut self, bytes: &[u8], table: &str) -> Result<Job, StoreError> {
        let Decoder { connection, interner, decisions } = self;
        let find = |number: u32| {
            if let Some(known) = decisions.borrow().get(&number) {
                return Some(known.clone());
            }
            let found = find_decision(connection, number).ok()?;
            decisions.borrow_mut().insert(number, found.clone());
            Some(found)
        };
        decode_job(bytes, interner, &find).map_err(|e| damaged(table, e))
    }
}

fn check(job: &Job, told: (i64, Vec<u8>, i64, Option<i64>), table: &str) -> Result<(), StoreError> {
    let expire = job.expire_time.map(|t| int(t.0));
    let (create, id, state, told_expire) = told;
    // Cleaning puts off the jobs of a run that goes on.
    let may_be_later = RunId::of_job(&job.id).is_some();
    let is_put_off = may_be_later && expire.is_some() && told_expire > expire;
    let is_same = (create, id, state) == (int(job.create_time.0), id_bytes(&job.id), job.state.kind() as i64);
    if !is_same || (told_expire != expire && !is_put_off) {
        return Err(damaged(table, format_args!("columns of job {} differ from its record", job.id)));
    }
    Ok(())
}

fn find_decision(connection: &Connection, number: u32) -> Result<Arc<Decision>, StoreError> {
    let record: Vec<u8> = connection
        .prepare_cached("SELECT record FROM decisions WHERE number = ?1")
        .and_then(|mut s| s.query_row([number], |row| row.get(0)))
        .map_err(sql)?;
    let wire = wire::Decision::decode(unsealed(&record).map_err(|e| damaged("decisions", e))?);
    let wire = wire.map_err(|e| damaged("decisions", e))?;
    decode::decision_of(&wire, &mut Interner::default()).map_err(|e| damaged("decisions", e))
}
