//! What evaluations may cost. Handed in by whoever reads.

use crate::fault::Fault;
use std::cell::Cell;

/// The steps that evaluations may take, each and together.
#[derive(Debug)]
pub struct Purse {
    each: u32,
    all: u32,
    together: &'static str,
    spent: Cell<u32>,
}

/// What one evaluation takes out of a purse.
#[derive(Debug)]
pub struct Meter<'p> {
    purse: &'p Purse,
    spent: u32,
    most: u32,
}

pub(crate) fn steps(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

// === impl Purse ===

impl Purse {
    /// At most `each` steps for one evaluation and `all` for all of them. `together` names them in the message about
    /// the latter, such as "the conditions of this judgement".
    pub const fn new(each: u32, all: u32, together: &'static str) -> Purse {
        Purse { each, all, together, spent: Cell::new(0) }
    }

    /// For one evaluation, and for what becomes of its value.
    pub fn meter(&self) -> Meter<'_> {
        Meter { purse: self, spent: 0, most: self.each.min(self.all.saturating_sub(self.spent.get())) }
    }

    /// Steps taken so far by evaluations that are over.
    pub fn spent(&self) -> u32 {
        self.spent.get()
    }
}

// === impl Meter ===

impl Meter<'_> {
    /// Pays for steps before they are taken.
    pub(crate) fn pay(&mut self, steps: u32) -> Result<(), Fault> {
        self.spent = self.spent.saturating_add(steps);
        if self.spent <= self.most { Ok(()) } else { Err(self.empty()) }
    }

    /// Texts cost by their length.
    pub(crate) fn pay_bytes(&mut self, bytes: usize) -> Result<(), Fault> {
        self.pay(steps(bytes / 64))
    }

    fn empty(&self) -> Fault {
        let Purse { each, all, together, .. } = self.purse;
        if self.most == *each {
            Fault::limit(format!("it costs more than {each} steps"))
        } else {
            Fault::limit(format!("{together} cost more than {all} steps together"))
        }
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        self.purse.spent.set(self.purse.spent.get().saturating_add(self.spent));
    }
}
