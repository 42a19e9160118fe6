//! Makes a failing run smaller: fewer clients, fewer kinds of fault, less time, as long as it still fails.

use crate::fault::Fault;
use crate::options::{Narrow, Options};
use crate::planted::Planted;
use crate::run::caught;
use coretex_domain::Span;
use std::time::{Duration, Instant};

/// The smallest narrowing found within `budget`, with its violation.
pub fn shrink(seed: u64, from: &Narrow, planted: Option<Planted>, budget: Duration) -> (Narrow, String) {
    let until = Instant::now() + budget;
    let mut search = Search { seed, planted, until, best: from.clone(), why: String::new() };
    search.attempt(from.clone());
    for clients in 1..search.options().clients {
        if search.attempt(Narrow { clients: Some(clients), ..search.best.clone() }) {
            break;
        }
    }
    for fault in Fault::ALL {
        if search.options().faults.has(*fault) {
            let mut next = search.best.clone();
            next.without.push(*fault);
            search.attempt(next);
        }
    }
    let (mut low, mut high) = (0, search.options().duration.0 / 1_000);
    while low + 5 < high {
        let middle = (low + high) / 2;
        match search.attempt(Narrow { until: Some(Span::secs(middle)), ..search.best.clone() }) {
            true => high = middle,
            false => low = middle,
        }
    }
    (search.best, search.why)
}

struct Search {
    seed: u64,
    planted: Option<Planted>,
    until: Instant,
    best: Narrow,
    why: String,
}

impl Search {
    fn options(&self) -> Options {
        Options::of(self.seed).narrowed(&self.best)
    }

    /// Keeps `next` if it still fails.
    fn attempt(&mut self, next: Narrow) -> bool {
        if Instant::now() > self.until {
            return false;
        }
        let mut options = Options::of(self.seed).narrowed(&next);
        options.planted = self.planted;
        match caught(options).violation {
            Some(why) => {
                self.best = next;
                self.why = why;
                true
            }
            None => false,
        }
    }
}
