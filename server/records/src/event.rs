//! History entries, leases and their numbers on disk.

use crate::encode::put_texts;
use crate::intern::Interner;
use crate::{Damaged, put, wire};
use coretex_domain::job::{
    Cancel, Close, Closed, Entry, Event, EventKind, Grounds, Lease, Note, Return, Ruling,
};
use coretex_domain::{JobId, SessionId, Time};

/// Number of an event kind on disk; the order of the enum is free to change, these are not.
fn number(kind: EventKind) -> u32 {
    match kind {
        EventKind::Submitted => 1,
        EventKind::Admitted => 2,
        EventKind::Deferred => 3,
        EventKind::ApprovalRequested => 4,
        EventKind::Approved => 5,
        EventKind::ApprovalVoided => 6,
        EventKind::Rejudged => 7,
        EventKind::Denied => 8,
        EventKind::Dispatched => 9,
        EventKind::Returned => 10,
        EventKind::Started => 11,
        EventKind::Released => 12,
        EventKind::Succeeded => 13,
        EventKind::AttemptFailed => 14,
        EventKind::Failed => 15,
        EventKind::TimedOut => 16,
        EventKind::RetryDue => 17,
        EventKind::Expired => 18,
        EventKind::CancelRequested => 19,
        EventKind::Cancelled => 20,
        EventKind::Annotated => 21,
    }
}

pub(crate) fn put_id(buf: &mut Vec<u8>, tag: u32, id: &JobId) {
    put::nested(buf, tag, |buf| match id {
        JobId::Made(uuid) => {
            put::fixed(buf, 1, (uuid >> 64) as u64);
            put::fixed(buf, 2, *uuid as u64);
        }
        JobId::Named(name) => put::opt_text(buf, 3, Some(name)),
    });
}

pub(crate) fn put_lease(buf: &mut Vec<u8>, tag: u32, lease: &Lease) {
    put::nested(buf, tag, |buf| {
        put::uint(buf, 1, u64::from(lease.serial));
        put::uint(buf, 2, lease.id);
        put::fixed(buf, 3, (lease.session.0 >> 64) as u64);
        put::fixed(buf, 4, lease.session.0 as u64);
        put::text(buf, 5, &lease.worker_id);
        put::text(buf, 6, &lease.lane_id);
    });
}

pub(crate) fn put_cancel(buf: &mut Vec<u8>, tag: u32, cancel: &Cancel) {
    put::nested(buf, tag, |buf| {
        put::text(buf, 1, &cancel.reason);
        put::text(buf, 2, &cancel.actor);
        put::uint(buf, 3, cancel.time.0);
    });
}

fn put_closed(buf: &mut Vec<u8>, closed: &Closed) {
    put::nested(buf, 7, |buf| {
        put::uint(buf, 1, closed.close as u64);
        put::text(buf, 2, &closed.kind);
        put::text(buf, 3, &closed.message);
    });
}

fn put_ruling(buf: &mut Vec<u8>, ruling: Option<&Ruling>) {
    let Some(ruling) = ruling else { return };
    put::nested(buf, 13, |buf| {
        put::uint(buf, 1, ruling.grounds as u64);
        put_texts(buf, 2, &ruling.by);
        put::text(buf, 3, &ruling.comment);
    });
}

pub(crate) fn put_entry(buf: &mut Vec<u8>, tag: u32, entry: &Entry) {
    put::nested(buf, tag, |buf| {
        put::uint(buf, 1, entry.seq);
        put::uint(buf, 2, entry.time.0);
        put::uint(buf, 3, u64::from(number(entry.event.kind())));
        match &entry.event {
            Event::Submitted { actor } => put::opt_text(buf, 4, actor.as_deref()),
            Event::Admitted { place } | Event::RetryDue { place } => {
                put::uint(buf, 5, *place);
            }
            Event::Approved { place, ruling } => {
                put::uint(buf, 5, *place);
                put_ruling(buf, ruling.as_deref());
            }
            Event::ApprovalVoided(ruling) | Event::Denied(ruling) => put_ruling(buf, ruling.as_deref()),
            Event::Deferred(why) => {
                put::opt_text(buf, 4, Some(&why.1));
                put::uint(buf, 8, why.0.0);
            }
            Event::Dispatched(lease) => put_lease(buf, 6, lease),
            Event::Returned(why) => put::uint(buf, 9, *why as u64),
            Event::AttemptFailed(closed) => {
                put_closed(buf, &closed.0);
                put::uint(buf, 8, closed.1.0);
            }
            Event::Failed(closed) => put_closed(buf, closed),
            Event::TimedOut { total } => put::flag(buf, 9, *total),
            Event::CancelRequested(cancel) | Event::Cancelled(Some(cancel)) => put_cancel(buf, 10, cancel),
            Event::Annotated(note) => match &**note {
                Note::LateResult(text) => put::opt_text(buf, 4, Some(text)),
                Note::RetriedAs(id) => put_id(buf, 11, id),
                Note::DeadLetterDeleted(actor) => put::opt_text(buf, 12, Some(actor)),
            },
            Event::ApprovalRequested
            | Event::Rejudged
            | Event::Started
            | Event::Released
            | Event::Succeeded
            | Event::Expired
            | Event::Cancelled(None) => {}
        }
    });
}

pub(crate) fn id_of(id: Option<&wire::Id>) -> Result<JobId, Damaged> {
    let id = id.ok_or_else(|| Damaged("record without an id".into()))?;
    Ok(match &id.name {
        Some(name) => JobId::Named(name.as_str().into()),
        None => JobId::Made(u128::from(id.high) << 64 | u128::from(id.low)),
    })
}

pub(crate) fn lease_of(lease: &wire::Lease, interner: &mut Interner) -> Box<Lease> {
    Box::new(Lease {
        serial: lease.serial,
        id: lease.id,
        session: SessionId(u128::from(lease.session_high) << 64 | u128::from(lease.session_low)),
        worker_id: interner.text(&lease.worker_id),
        lane_id: interner.text(&lease.lane_id),
    })
}

pub(crate) fn cancel_of(cancel: &wire::Cancel, interner: &mut Interner) -> Cancel {
    Cancel {
        reason: interner.text(&cancel.reason),
        actor: interner.text(&cancel.actor),
        time: Time(cancel.time),
    }
}

fn closed_of(closed: Option<&wire::Closed>, interner: &mut Interner) -> Result<Closed, Damaged> {
    let closed = closed.ok_or_else(|| missing("closed"))?;
    Ok(Closed {
        close: Close::from_number(closed.close).ok_or_else(|| missing("known close"))?,
        kind: interner.text(&closed.kind),
        message: interner.text(&closed.message),
    })
}

fn ruling_of(entry: &wire::Entry, interner: &mut Interner) -> Result<Option<Box<Ruling>>, Damaged> {
    let Some(ruling) = &entry.ruling else { return Ok(None) };
    Ok(Some(Box::new(Ruling {
        grounds: Grounds::from_number(ruling.grounds).ok_or_else(|| missing("known grounds"))?,
        by: ruling.by.iter().map(|name| interner.text(name)).collect(),
        comment: ruling.comment.as_str().into(),
    })))
}

fn missing(what: &str) -> Damaged {
    Damaged(format!("history entry without {what}"))
}

pub(crate) fn entry_of(entry: &wire::Entry, interner: &mut Interner) -> Result<Entry, Damaged> {
    let place = entry.place;
    let text = entry.text.as_deref();
    let event = match entry.kind {
        1 => Event::Submitted { actor: text.map(Into::into) },
        2 => Event::Admitted { place },
        3 => Event::Deferred(Box::new((Time(entry.at), interner.text(text.unwrap_or_default())))),
        4 => Event::ApprovalRequested,
        5 => Event::Approved { place, ruling: ruling_of(entry, interner)? },
        6 => Event::ApprovalVoided(ruling_of(entry, interner)?),
        7 => Event::Rejudged,
        8 => Event::Denied(ruling_of(entry, interner)?),
        9 => Event::Dispatched(lease_of(entry.lease.as_ref().ok_or_else(|| missing("lease"))?, interner)),
        10 => Event::Returned(Return::from_number(entry.number).ok_or_else(|| missing("known return"))?),
        11 => Event::Started,
        12 => Event::Released,
        13 => Event::Succeeded,
        14 => Event::AttemptFailed(Box::new((closed_of(entry.closed.as_ref(), interner)?, Time(entry.at)))),
        15 => Event::Failed(Box::new(closed_of(entry.closed.as_ref(), interner)?)),
        16 => Event::TimedOut { total: entry.number != 0 },
        17 => Event::RetryDue { place },
        18 => Event::Expired,
        19 => {
            let cancel = entry.cancel.as_ref().ok_or_else(|| missing("cancel"))?;
            Event::CancelRequested(Box::new(cancel_of(cancel, interner)))
        }
        20 => Event::Cancelled(entry.cancel.as_ref().map(|wish| Box::new(cancel_of(wish, interner)))),
        21 => Event::Annotated(Box::new(match (text, &entry.letter_deleted_by) {
            (Some(text), _) => Note::LateResult(text.into()),
            (None, Some(actor)) => Note::DeadLetterDeleted(interner.text(actor)),
            (None, None) => Note::RetriedAs(id_of(entry.retried_as.as_ref())?),
        })),
        unknown => return Err(Damaged(format!("history entry of unknown kind {unknown}"))),
    };
    Ok(Entry { seq: entry.seq, time: Time(entry.time), event })
}
