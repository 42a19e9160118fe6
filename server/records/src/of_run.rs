//! The place of a job in its run, into bytes and back. Most jobs have none.

use crate::intern::Interner;
use crate::terms::{approval_of, put_approval};
use crate::{Damaged, put, wire};
use coretex_domain::job::OfRun;
use coretex_domain::run::At;

pub(crate) fn put_of_run(buf: &mut Vec<u8>, tag: u32, of_run: &OfRun) {
    put::nested(buf, tag, |buf| {
        put::uint(buf, 1, u64::from(of_run.at.scope));
        put::uint(buf, 2, u64::from(of_run.at.place));
        put::opt_uint(buf, 3, of_run.index.map(u64::from));
        put::flag(buf, 4, of_run.is_undo);
        if let Some(asks) = &of_run.asks {
            put::nested(buf, 5, |buf| put_approval(buf, asks));
        }
        put::opt_text(buf, 6, of_run.token_key.as_deref());
    });
}

pub(crate) fn of_run_of(of_run: &wire::OfRun, interner: &mut Interner) -> Result<OfRun, Damaged> {
    Ok(OfRun {
        at: At { scope: of_run.scope, place: of_run.place },
        index: of_run.index,
        is_undo: of_run.is_undo,
        asks: of_run.asks.as_ref().map(|asks| approval_of(asks, interner)).transpose()?,
        token_key: of_run.token_key.as_deref().map(|key| interner.text(key)),
    })
}
