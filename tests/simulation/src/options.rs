//! From one seed to everything a run is made of. The block is printed with a failure and can be narrowed by hand.

use crate::fault::{Fault, FaultSet};
use crate::planted::{Planted, Shell};
use crate::rng::Rng;
use coretex_domain::Span;
use coretex_kernel::mutant::Mutant;
use std::fmt;

pub(crate) const CLIENTS: usize = 4;
pub(crate) const WORKERS: usize = 8;
/// Simulated time with faults, unless narrowed.
pub const DURATION: Span = Span::mins(10);

/// One run, whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    pub seed: u64,
    pub nodes: usize,
    pub loops: usize,
    /// Groups on their way to the store at a time.
    pub depth: usize,
    pub workers: usize,
    pub clients: usize,
    pub duration: Span,
    pub faults: FaultSet,
    /// Rates in parts of ten thousand.
    pub net_drop: u32,
    pub net_dup: u32,
    pub net_reorder: u32,
    pub net_delay: u32,
    pub net_delay_max: Span,
    pub store_bad: u32,
    /// Usual time of one step of the store, and the longest in its slow hours.
    pub store_wait_max: Span,
    pub store_slow_max: Span,
    pub call_dropped: u32,
    pub crashes: u32,
    pub pauses: u32,
    pub breaks: u32,
    pub jumps: u32,
    pub session_ttl: Span,
    /// Settings of topics never change, so that limits can be checked exactly.
    pub steady: bool,
    /// One request brings more jobs of one key than are unparked at a time.
    pub flood: bool,
    /// One job makes more jobs than it may.
    pub swarm: bool,
    /// Queues longer than this are kept in their small form.
    pub pack_from: usize,
    pub planted: Option<Planted>,
    pub trace: bool,
}

/// What a command line or a corpus line narrows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Narrow {
    pub clients: Option<usize>,
    pub workers: Option<usize>,
    pub without: Vec<Fault>,
    pub until: Option<Span>,
}

impl Options {
    pub fn of(seed: u64) -> Options {
        let mut rng = Rng::new(seed, 1);
        let mut faults = FaultSet::NONE;
        // Each kind sits out in a third of the seeds, and one seed in ten is nearly quiet.
        let share = if rng.chance(1_000) { 1_500 } else { 6_700 };
        for fault in Fault::ALL {
            if rng.chance(share) {
                faults.add(*fault);
            }
        }
        let nodes = rng.between(1, 3) as usize;
        Options {
            seed,
            nodes,
            loops: rng.between(1, 3) as usize,
            depth: rng.between(1, 3) as usize,
            workers: WORKERS,
            clients: CLIENTS,
            duration: DURATION,
            faults,
            net_drop: rng.below(1_000) as u32,
            net_dup: rng.below(1_000) as u32,
            net_reorder: rng.below(3_000) as u32,
            net_delay: rng.below(2_000) as u32,
            net_delay_max: Span(rng.skewed(20, 5_000)),
            store_bad: rng.skewed(2, 100) as u32,
            store_wait_max: Span(rng.skewed(2, 40)),
            store_slow_max: Span(rng.skewed(50, 10_000)),
            call_dropped: rng.below(300) as u32,
            crashes: rng.below(5) as u32,
            pauses: rng.below(4) as u32,
            breaks: rng.below(20) as u32,
            jumps: rng.below(5) as u32,
            session_ttl: Span::secs(rng.between(6, 15)),
            steady: rng.chance(5_000),
            flood: rng.chance(800),
            pack_from: if rng.chance(5_000) { rng.below(5) as usize } else { 20_000 },
            swarm: rng.chance(150),
            planted: None,
            trace: false,
        }
    }

    pub(crate) fn has(&self, shell: Shell) -> bool {
        self.planted == Some(Planted::Shell(shell))
    }

    pub(crate) fn has_kernel(&self, mutant: Mutant) -> bool {
        self.planted == Some(Planted::Kernel(mutant))
    }

    pub fn narrowed(mut self, narrow: &Narrow) -> Options {
        self.clients = narrow.clients.unwrap_or(self.clients).min(self.clients);
        self.workers = narrow.workers.unwrap_or(self.workers).min(self.workers);
        self.duration = narrow.until.unwrap_or(self.duration).min(self.duration);
        for fault in &narrow.without {
            self.faults.remove(*fault);
        }
        self
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed={} nodes={} loops={} depth={} workers={} clients={} duration={}s ttl={}s steady={} flood={} swarm={} pack_from={} planted={}",
            self.seed,
            self.nodes,
            self.loops,
            self.depth,
            self.workers,
            self.clients,
            self.duration.0 / 1_000,
            self.session_ttl.0 / 1_000,
            self.steady,
            self.flood,
            self.swarm,
            self.pack_from,
            self.planted.map_or("none", Planted::name),
        )?;
        writeln!(
            f,
            "net: drop={} dup={} reorder={} delay={}..{}ms  store: bad={} wait={}ms slow={}ms  calls dropped={}  crashes={} pauses={} breaks={} jumps={}",
            self.net_drop,
            self.net_dup,
            self.net_reorder,
            self.net_delay,
            self.net_delay_max.0,
            self.store_bad,
            self.store_wait_max.0,
            self.store_slow_max.0,
            self.call_dropped,
            self.crashes,
            self.pauses,
            self.breaks,
            self.jumps,
        )?;
        let names: Vec<_> = self.faults.iter().map(Fault::name).collect();
        write!(f, "faults: {}", names.join(" "))
    }
}

// === impl Narrow ===

impl Narrow {
    /// Reads `clients=2 workers=4 until=30 without=crash,pause`.
    pub fn parse<'a>(words: impl Iterator<Item = &'a str>) -> Result<Narrow, String> {
        let mut narrow = Narrow::default();
        for word in words {
            let (name, value) = word.split_once('=').ok_or_else(|| format!("`{word}` is not name=value"))?;
            let number = || value.parse::<u64>().map_err(|_| format!("`{value}` is not a number"));
            match name {
                "clients" => narrow.clients = Some(number()? as usize),
                "workers" => narrow.workers = Some(number()? as usize),
                "until" => narrow.until = Some(Span::secs(number()?)),
                "without" => {
                    for fault in value.split(',').filter(|s| !s.is_empty()) {
                        let known = Fault::from_name(fault).ok_or_else(|| format!("no fault `{fault}`"))?;
                        narrow.without.push(known);
                    }
                }
                other => return Err(format!("no option `{other}`")),
            }
        }
        Ok(narrow)
    }
}

impl fmt::Display for Narrow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        words.extend(self.clients.map(|n| format!("clients={n}")));
        words.extend(self.workers.map(|n| format!("workers={n}")));
        words.extend(self.until.map(|t| format!("until={}", t.0 / 1_000)));
        if !self.without.is_empty() {
            let names: Vec<_> = self.without.iter().map(|f| f.name()).collect();
            words.push(format!("without={}", names.join(",")));
        }
        f.write_str(&words.join(" "))
    }
}
