//! Retention: ended jobs go when their time has come, with everything that belongs to them.

use super::jobs::replace_pack;
use super::pack::Pack;
use super::write::Writer;
use super::{damaged, int, name_in, sql};
use coretex_domain::limits::RUN_JOBS_PUT_OFF;
use coretex_domain::resource::Kind;
use coretex_domain::run::body::parts_of;
use coretex_domain::{JobId, RunId, Time};
use coretex_ports::{Cleaned, StoreError};
use rusqlite::{OptionalExtension, Transaction, params};

/// One due job: (namespace number, create time, id).
type Due = (i64, i64, Vec<u8>);

/// Packs held at a time.
const PACKS_MAX: i64 = 64;

impl Writer {
    /// Removes up to `limit` due jobs. `is_settled` says whether a job has no newer version on its way.
    pub(crate) fn clean(
        &mut self,
        now: Time,
        limit: usize,
        is_settled: impl Fn(&[u8]) -> bool,
    ) -> Result<Cleaned, StoreError> {
        let transaction = self.connection.transaction().map_err(sql)?;
        let removed = clean_rows(&transaction, now, limit, &is_settled)?;
        let left = limit.saturating_sub(removed);
        let removed = removed + clean_packs(&transaction, now, left, &is_settled)?;
        let removed = removed + clean_resources(&transaction, now, limit)?;
        let text = "SELECT min(at) FROM (SELECT min(expire_ms) AS at FROM jobs WHERE expire_ms IS NOT NULL
                    UNION ALL SELECT min(expire_ms) FROM packs
                    UNION ALL SELECT min(expire_ms) FROM resources WHERE expire_ms IS NOT NULL)";
        let next: Option<i64> = transaction
            .prepare_cached(text)
            .and_then(|mut s| s.query_row([], |row| row.get(0)))
            .map_err(sql)?;
        transaction.commit().map_err(sql)?;
        let next_due = next.map(|at| Time(u64::try_from(at).unwrap_or(0)));
        Ok(Cleaned { removed: removed as u64, next_due })
    }
}

fn clean_rows(
    transaction: &Transaction<'_>,
    now: Time,
    limit: usize,
    is_settled: &impl Fn(&[u8]) -> bool,
) -> Result<usize, StoreError> {
    let due: Vec<Due> = {
        let text = "SELECT ns, create_ms, id FROM jobs INDEXED BY jobs_expiry WHERE expire_ms <= ?1 ORDER BY expire_ms LIMIT ?2";
        let mut statement = transaction.prepare_cached(text).map_err(sql)?;
        let rows = statement.query_map(params![int(now.0), int(limit as u64)], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        });
        rows.map_err(sql)?.collect::<Result<_, _>>().map_err(sql)?
    };
    let prepare = |text: &str| transaction.prepare_cached(text).map_err(sql);
    let mut job = prepare("DELETE FROM jobs WHERE ns = ?1 AND create_ms = ?2 AND id = ?3")?;
    let mut letter = prepare("DELETE FROM dead_letters WHERE ns = ?1 AND create_ms = ?2 AND id = ?3")?;
    let mut moved = prepare("DELETE FROM moved WHERE ns = ?1 AND id = ?2")?;
    let mut put_off = prepare("UPDATE jobs SET expire_ms = ?4 WHERE ns = ?1 AND create_ms = ?2 AND id = ?3")?;
    let mut removed = 0;
    for (ns, create, id) in due.iter().filter(|(_, _, id)| is_settled(id)) {
        if is_of_open_run(transaction, *ns, id)? {
            put_off.execute(params![ns, create, id, int((now + RUN_JOBS_PUT_OFF).0)]).map_err(sql)?;
            continue;
        }
        clean_belongings(transaction, *ns, id)?;
        letter.execute(params![ns, create, id]).map_err(sql)?;
        moved.execute(params![ns, id]).map_err(sql)?;
        removed += job.execute(params![ns, create, id]).map_err(sql)?;
    }
    Ok(removed)
}

/// Packed jobs have neither dead letters nor another place they are filed under.
fn clean_packs(
    transaction: &Transaction<'_>,
    now: Time,
    limit: usize,
    is_settled: &impl Fn(&[u8]) -> bool,
) -> Result<usize, StoreError> {
    let mut removed = 0;
    while removed < limit {
        let before = removed;
        for (number, ns, record) in due_packs(transaction, now)? {
            let pack = Pack::read(&record).map_err(|e| damaged("packs", e))?;
            let mut gone = Vec::new();
            let mut rest = pack.retain(|entry| {
                let id = entry.id();
                let goes = removed + gone.len() < limit && entry.expire_ms <= int(now.0) && is_settled(&id);
                if goes {
                    gone.push(id);
                }
                !goes
            });
            if gone.is_empty() {
                continue;
            }
            for id in &gone {
                clean_belongings(transaction, ns, id)?;
            }
            replace_pack(transaction, number, &mut rest, &mut Vec::new())?;
            removed += gone.len();
        }
        if removed == before {
            break;
        }
    }
    Ok(removed)
}

/// Packs with due jobs: number, namespace, record.
fn due_packs(transaction: &Transaction<'_>, now: Time) -> Result<Vec<(i64, i64, Vec<u8>)>, StoreError> {
    let text = "SELECT number, ns, record FROM packs WHERE expire_ms <= ?1 ORDER BY expire_ms LIMIT ?2";
    let mut statement = transaction.prepare_cached(text).map_err(sql)?;
    let rows = statement
        .query_map(params![int(now.0), PACKS_MAX], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    rows.map_err(sql)?.collect::<Result<_, _>>().map_err(sql)
}

/// A job is kept while its run goes on, which may read its result.
fn is_of_open_run(transaction: &Transaction<'_>, ns: i64, id: &[u8]) -> Result<bool, StoreError> {
    let Some(run) = name_in(id).and_then(|name| RunId::of_job(&JobId::Named(name.into()))) else {
        return Ok(false);
    };
    let text = "SELECT live FROM resources WHERE kind = ?1 AND ns = ?2 AND name = ?3";
    let live: Option<i64> = transaction
        .prepare_cached(text)
        .and_then(|mut s| {
            s.query_row(params![Kind::Run as u8, ns, run.as_str()], |row| row.get(0)).optional()
        })
        .map_err(sql)?;
    Ok(live == Some(1))
}

/// A newer version on its way is written again by the round that brings it. The parts of a run go with it.
fn clean_resources(transaction: &Transaction<'_>, now: Time, limit: usize) -> Result<usize, StoreError> {
    let due: Vec<(u8, i64, String)> = {
        let text =
            "SELECT kind, ns, name FROM resources INDEXED BY resources_expiry WHERE expire_ms <= ?1 LIMIT ?2";
        let mut statement = transaction.prepare_cached(text).map_err(sql)?;
        let rows = statement.query_map(params![int(now.0), int(limit as u64)], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        });
        rows.map_err(sql)?.collect::<Result<_, _>>().map_err(sql)?
    };
    let prepare = |text: &str| transaction.prepare_cached(text).map_err(sql);
    let mut one = prepare("DELETE FROM resources WHERE kind = ?1 AND ns = ?2 AND name = ?3")?;
    let mut parts =
        prepare("DELETE FROM resources WHERE kind = ?1 AND ns = ?2 AND name >= ?3 AND name < ?4")?;
    let mut removed = 0;
    for (kind, ns, name) in due {
        removed += one.execute(params![kind, ns, name]).map_err(sql)?;
        if kind == Kind::Run as u8 {
            let (from, to) = parts_of(&name);
            parts.execute(params![Kind::RunPart as u8, ns, from, to]).map_err(sql)?;
        }
    }
    Ok(removed)
}

/// Keys that name the job, and its output.
fn clean_belongings(transaction: &Transaction<'_>, ns: i64, id: &[u8]) -> Result<(), StoreError> {
    for text in
        ["DELETE FROM keys WHERE ns = ?1 AND job = ?2", "DELETE FROM outputs WHERE ns = ?1 AND id = ?2"]
    {
        transaction
            .prepare_cached(text)
            .and_then(|mut statement| statement.execute(params![ns, id]))
            .map_err(sql)?;
    }
    Ok(())
}
