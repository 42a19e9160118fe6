//! Retention: ended jobs go when their time has come, with everything that belongs to them.

use super::write::Writer;
use super::{int, sql};
use coretex_domain::Time;
use coretex_ports::{Cleaned, StoreError};
use rusqlite::params;

/// One due job: (namespace number, create time, id).
type Due = (i64, i64, Vec<u8>);

impl Writer {
    /// Removes up to `limit` due jobs. `is_settled` says whether a job has no newer version on its way.
    pub(crate) fn clean(
        &mut self,
        now: Time,
        limit: usize,
        is_settled: impl Fn(&[u8]) -> bool,
    ) -> Result<Cleaned, StoreError> {
        let transaction = self.connection.transaction().map_err(sql)?;
        let due: Vec<Due> = {
            let text = "SELECT ns, create_ms, id FROM jobs INDEXED BY jobs_expiry WHERE expire_ms <= ?1 ORDER BY expire_ms LIMIT ?2";
            let mut statement = transaction.prepare_cached(text).map_err(sql)?;
            let rows = statement.query_map(params![int(now.0), int(limit as u64)], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            });
            rows.map_err(sql)?.collect::<Result<_, _>>().map_err(sql)?
        };
        let mut removed = 0;
        let prepare = |text: &str| transaction.prepare_cached(text).map_err(sql);
        let mut job = prepare("DELETE FROM jobs WHERE ns = ?1 AND create_ms = ?2 AND id = ?3")?;
        let mut letter = prepare("DELETE FROM dead_letters WHERE ns = ?1 AND create_ms = ?2 AND id = ?3")?;
        let mut key = prepare("DELETE FROM keys WHERE ns = ?1 AND job = ?2")?;
        let mut moved = prepare("DELETE FROM moved WHERE ns = ?1 AND id = ?2")?;
        let mut output = prepare("DELETE FROM outputs WHERE ns = ?1 AND id = ?2")?;
        for (ns, create, id) in &due {
            if !is_settled(id) {
                continue;
            }
            key.execute(params![ns, id]).map_err(sql)?;
            letter.execute(params![ns, create, id]).map_err(sql)?;
            output.execute(params![ns, id]).map_err(sql)?;
            moved.execute(params![ns, id]).map_err(sql)?;
            removed += job.execute(params![ns, create, id]).map_err(sql)? as u64;
        }
        let next: Option<i64> = prepare("SELECT min(expire_ms) FROM jobs WHERE expire_ms IS NOT NULL")?
            .query_row([], |row| row.get(0))
            .map_err(sql)?;
        drop((job, letter, key, moved, output));
        transaction.commit().map_err(sql)?;
        Ok(Cleaned { removed, next_due: next.map(|at| Time(u64::try_from(at).unwrap_or(0))) })
    }
}
