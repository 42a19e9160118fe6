//! Rows and packs as one walk in key order.

use super::pack::{self, Entry, Pack};
use super::{damaged, id_bytes, int, sql};
use coretex_domain::{JobId, Time};
use coretex_ports::StoreError;
use rusqlite::{Connection, Rows};
use std::collections::BTreeMap;
use std::rc::Rc;

/// A place in key order: create time, then id.
pub(crate) type Key = (i64, Vec<u8>);

/// The part of a namespace that is walked.
pub(crate) struct Range {
    /// Create times, both included.
    pub(crate) low: i64,
    pub(crate) high: i64,
    /// Only what comes after it.
    pub(crate) mark: Key,
    pub(crate) descending: bool,
}

/// A job of a pack that is on its way to the walker.
pub(super) struct Packed {
    pub(super) pack: Rc<Pack>,
    pub(super) n: usize,
}

/// Packs, opened as far as needed to tell which of their jobs comes next.
pub(super) struct PackWalk<'a> {
    rows: Rows<'a>,
    range: &'a Range,
    ready: BTreeMap<Key, Packed>,
    /// First create time of the last pack that was opened; those not opened lie beyond it.
    reached: Option<i64>,
    is_over: bool,
}

// === impl Range ===

impl Range {
    pub(crate) fn new(from: Time, to: Time, after: Option<&(Time, JobId)>, descending: bool) -> Range {
        let (mut low, mut high) = (int(from.0), int(to.0));
        let mark = match after {
            Some((time, id)) => (int(time.0), id_bytes(id)),
            None if descending => (i64::MAX, vec![0xff; 2]),
            None => (-1, Vec::new()),
        };
        if descending {
            high = high.min(mark.0);
        } else {
            low = low.max(mark.0);
        }
        Range { low, high, mark, descending }
    }

    /// True if `key` is within and still to come.
    pub(crate) fn is_ahead(&self, key: &Key) -> bool {
        let within = key.0 >= self.low && key.0 <= self.high;
        within && if self.descending { *key < self.mark } else { *key > self.mark }
    }

    /// True if `a` is walked before `b`.
    pub(super) fn is_before(&self, a: &Key, b: &Key) -> bool {
        if self.descending { a > b } else { a < b }
    }

    /// Words of a query over rows with the columns of the key; its parameters are namespace, low, high and mark.
    pub(crate) fn clause(&self) -> String {
        let (compare, order) = if self.descending { ("<", "DESC") } else { (">", "ASC") };
        format!(
            "WHERE ns = ?1 AND create_ms BETWEEN ?2 AND ?3
             AND (create_ms, id) {compare} (?4, ?5) ORDER BY create_ms {order}, id {order}"
        )
    }
}

// === impl PackWalk ===

/// The query of a walk over packs; parameters: namespace, lowest and highest first create time, lowest last one.
pub(super) fn packs_query(descending: bool) -> String {
    let order = if descending { "DESC" } else { "ASC" };
    format!(
        "SELECT first_ms, last_ms, expire_ms, count, record FROM packs
         WHERE ns = ?1 AND first_ms BETWEEN ?2 AND ?3 AND last_ms >= ?4 ORDER BY first_ms {order}"
    )
}

impl<'a> PackWalk<'a> {
    pub(super) fn new(rows: Rows<'a>, range: &'a Range) -> PackWalk<'a> {
        PackWalk { rows, range, ready: BTreeMap::new(), reached: None, is_over: false }
    }

    /// The key of the next job.
    pub(super) fn next_key(&mut self) -> Result<Option<&Key>, StoreError> {
        while self.must_open() {
            self.open_next()?;
        }
        Ok(self.first())
    }

    /// Takes out the job whose key was told last.
    pub(super) fn take(&mut self) -> Option<(Key, Packed)> {
        if self.range.descending { self.ready.pop_last() } else { self.ready.pop_first() }
    }

    fn first(&self) -> Option<&Key> {
        let first =
            if self.range.descending { self.ready.last_key_value() } else { self.ready.first_key_value() };
        first.map(|(key, _)| key)
    }

    /// A pack that was not opened may hold a job that comes before the first one at hand.
    fn must_open(&self) -> bool {
        if self.is_over {
            return false;
        }
        match (self.first(), self.reached) {
            (Some((create, _)), Some(reached)) if self.range.descending => {
                *create <= reached.saturating_add(pack::SPAN_MAX_MS)
            }
            (Some((create, _)), Some(reached)) => *create >= reached,
            (None, _) | (_, None) => true,
        }
    }

    fn open_next(&mut self) -> Result<(), StoreError> {
        let Some(row) = self.rows.next().map_err(sql)? else {
            self.is_over = true;
            return Ok(());
        };
        let opened = Rc::new(checked(row)?);
        self.reached = Some(opened.summary().first_ms);
        for (n, entry) in opened.entries.iter().enumerate() {
            let key = (entry.create_ms, entry.id());
            if self.range.is_ahead(&key) {
                self.ready.insert(key, Packed { pack: opened.clone(), n });
            }
        }
        Ok(())
    }
}

impl Packed {
    pub(super) fn entry(&self) -> &Entry {
        &self.pack.entries[self.n]
    }
}

/// Reads the pack of a row (first_ms, last_ms, expire_ms, count, record) and compares its columns with it.
fn checked(row: &rusqlite::Row<'_>) -> Result<Pack, StoreError> {
    let bytes = row.get_ref(4).and_then(|value| Ok(value.as_blob()?)).map_err(sql)?;
    let pack = Pack::read(bytes).map_err(|e| damaged("packs", e))?;
    let told = pack::Summary {
        first_ms: row.get(0).map_err(sql)?,
        last_ms: row.get(1).map_err(sql)?,
        expire_ms: row.get(2).map_err(sql)?,
        count: row.get(3).map_err(sql)?,
    };
    if told != pack.summary() {
        return Err(damaged("packs", format_args!("columns {told:?} differ from {:?}", pack.summary())));
    }
    Ok(pack)
}

/// Every pack there is, with the number of its namespace; for checks.
pub(super) fn all_packs(
    connection: &Connection,
    mut take: impl FnMut(i64, Pack) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let text = "SELECT first_ms, last_ms, expire_ms, count, record, ns FROM packs";
    let mut statement = connection.prepare(text).map_err(sql)?;
    let mut rows = statement.query([]).map_err(sql)?;
    while let Some(row) = rows.next().map_err(sql)? {
        take(row.get(5).map_err(sql)?, checked(row)?)?;
    }
    Ok(())
}
