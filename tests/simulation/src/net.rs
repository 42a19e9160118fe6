//! Links: unary messages that get lost, doubled and reordered; streams that keep order until they break.

use crate::event::Event;
use crate::fault::Fault;
use crate::wire::{Ask, Caller, Down, Refused, Said, Up};
use crate::world::World;
use coretex_domain::SessionId;

/// One worker stream. Each end learns of the other's end in its own time, or not at all.
pub(crate) struct Stream {
    pub(crate) worker: usize,
    pub(crate) node: usize,
    pub(crate) boot: u32,
    pub(crate) session: Option<SessionId>,
    pub(crate) is_open_at_node: bool,
    pub(crate) is_open_at_worker: bool,
    /// Arrival of the newest frame: order is kept.
    up_at: u64,
    down_at: u64,
    /// Frames vanish silently from now on.
    pub(crate) eats_up: bool,
    pub(crate) eats_down: bool,
}

/// Nothing gets through one way for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cut {
    pub(crate) end: End,
    pub(crate) node: usize,
    /// Towards the node; otherwise away from it.
    pub(crate) is_up: bool,
    pub(crate) until: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Client(usize),
    Worker(usize),
}

impl World {
    fn delay(&mut self) -> u64 {
        let rate = self.opt.net_delay;
        if !self.is_calm && self.roll_net.chance(rate) && self.strikes(Fault::NetDelay) {
            return self.roll_net.skewed(5, self.opt.net_delay_max.0.max(5));
        }
        self.roll_net.below(4)
    }

    fn cut_until(&self, end: End, node: usize, is_up: bool) -> Option<u64> {
        let cut = |c: &&Cut| c.end == end && c.node == node && c.is_up == is_up && c.until > self.now;
        self.cuts.iter().find(cut).map(|c| c.until)
    }

    /// When a unary message arrives: never, once, or twice; late and out of order.
    fn arrivals(&mut self, end: End, node: usize, is_up: bool) -> [Option<u64>; 2] {
        if self.cut_until(end, node, is_up).is_some() {
            return [None, None];
        }
        let (drop, dup, reorder) = (self.opt.net_drop, self.opt.net_dup, self.opt.net_reorder);
        if self.roll_net.chance(drop) && self.strikes(Fault::NetDrop) {
            return [None, None];
        }
        let mut at = self.now + self.delay();
        if self.roll_net.chance(reorder) && self.strikes(Fault::NetReorder) {
            at += self.roll_net.skewed(5, 500);
        }
        let again = self.roll_net.chance(dup) && self.strikes(Fault::NetDup);
        let second = again.then(|| at + self.roll_net.skewed(1, 2_000));
        [Some(at), second]
    }

    pub(crate) fn send_call(&mut self, from: Caller, node: usize, ask: &Ask) {
        let Some(end) = end_of(from) else { return };
        for at in self.arrivals(end, node, true).into_iter().flatten() {
            self.push(at, Event::Call { node, from, ask: Box::new(ask.clone()) });
        }
    }

    /// A node answers a unary call. What it says must be true from here on, whether it arrives or not.
    pub(crate) fn say(&mut self, node: usize, to: Caller, exec: u64, said: Said) {
        self.oracle.on_answer(exec, &said, &self.store);
        if let Said::Refused(Refused::Definite(why)) = said {
            self.cover.refused(why);
        }
        if let Some(at) = end_of(to).and_then(|end| self.arrivals(end, node, false)[0]) {
            self.push(at, Event::Said { to, node, said: Some(Box::new(said)) });
        }
    }

    /// A connection broke before the answer.
    pub(crate) fn hang_up(&mut self, node: usize, to: Caller) {
        if let Some(at) = end_of(to).and_then(|end| self.arrivals(end, node, false)[0]) {
            self.push(at, Event::Said { to, node, said: None });
        }
    }
}

// === impl World: streams ===

impl World {
    pub(crate) fn open_stream(&mut self, worker: usize, node: usize) -> u64 {
        self.next_stream += 1;
        let stream = Stream {
            worker,
            node,
            boot: self.nodes[node].boot,
            session: None,
            is_open_at_node: self.nodes[node].is_alive(),
            is_open_at_worker: true,
            up_at: 0,
            down_at: 0,
            eats_up: false,
            eats_down: false,
        };
        self.streams.insert(self.next_stream, stream);
        self.next_stream
    }

    pub(crate) fn send_up(&mut self, stream: u64, frame: Up) {
        let delay = self.delay();
        let Some(s) = self.streams.get(&stream).filter(|s| s.is_open_at_worker && !s.eats_up) else { return };
        let cut = self.cut_until(End::Worker(s.worker), s.node, true).unwrap_or(0);
        let at = (self.now + delay).max(s.up_at).max(cut);
        if let Some(s) = self.streams.get_mut(&stream) {
            s.up_at = at;
        }
        self.push(at, Event::Up { stream, frame: Box::new(frame) });
    }

    /// Sends a frame on a session's stream, if it has one.
    pub(crate) fn send_down(&mut self, n: usize, session: SessionId, frame: Down) {
        let Some(stream) = self.nodes[n].stays.get(&session).and_then(|s| s.stream) else { return };
        self.send_on(stream, frame);
    }

    fn send_on(&mut self, stream: u64, frame: Down) {
        let delay = self.delay();
        let Some(s) = self.streams.get(&stream).filter(|s| s.is_open_at_node && !s.eats_down) else { return };
        let cut = self.cut_until(End::Worker(s.worker), s.node, false).unwrap_or(0);
        let at = (self.now + delay).max(s.down_at).max(cut);
        if let Some(s) = self.streams.get_mut(&stream) {
            s.down_at = at;
        }
        self.push(at, Event::Down { stream, frame: Box::new(frame) });
    }

    /// The node turns a stream away.
    pub(crate) fn refuse_stream(&mut self, stream: u64) {
        self.send_on(stream, Down::Refused);
        if let Some(s) = self.streams.get_mut(&stream) {
            s.is_open_at_node = false;
        }
    }

    /// The worker closes its end. Half-open: the node hears of it late.
    pub(crate) fn close_at_worker(&mut self, stream: u64) {
        let Some(s) = self.streams.get_mut(&stream) else { return };
        if !s.is_open_at_worker {
            return;
        }
        s.is_open_at_worker = false;
        let is_eaten = s.eats_up;
        let wait = if is_eaten { 20_000 } else { self.delay() };
        self.push(self.now + wait, Event::NodeLost { stream });
    }

    /// All streams of a node end, politely or not.
    pub(crate) fn cut_streams_of(&mut self, n: usize, is_polite: bool) {
        let mut mine: Vec<u64> = self
            .streams
            .iter()
            .filter(|(_, s)| s.node == n && s.is_open_at_node)
            .map(|(id, _)| *id)
            .collect();
        mine.sort_unstable();
        for stream in mine {
            if let Some(s) = self.streams.get_mut(&stream) {
                s.is_open_at_node = false;
            }
            let wait = if is_polite { self.delay() } else { self.roll_net.skewed(1, 3_000) };
            self.push(self.now + wait, Event::WorkerLost { stream });
        }
    }

    /// A stream breaks in the middle: both ends notice, or one of them does not.
    pub(crate) fn break_stream(&mut self, worker: usize, is_half_open: bool) {
        let Some(stream) = self.workers[worker].stream else { return };
        let fault = if is_half_open { Fault::HalfOpen } else { Fault::StreamBreak };
        if !self.strikes(fault) {
            return;
        }
        let (to_node, to_worker) = (self.roll_net.skewed(1, 3_000), self.roll_net.skewed(1, 3_000));
        let which = self.roll_net.below(3);
        let Some(s) = self.streams.get_mut(&stream) else { return };
        if !is_half_open {
            s.eats_up = true;
            s.eats_down = true;
            self.push(self.now + to_node, Event::NodeLost { stream });
            return self.push(self.now + to_worker, Event::WorkerLost { stream });
        }
        s.eats_up = which != 1;
        s.eats_down = which != 2;
    }

    pub(crate) fn on_node_lost(&mut self, stream: u64) {
        let Some(s) = self.streams.get_mut(&stream) else { return };
        let (n, was_open) = (s.node, s.is_open_at_node && s.boot == self.nodes[s.node].boot);
        s.is_open_at_node = false;
        if was_open {
            self.detach(n, stream);
        }
        self.forget_stream(stream);
    }

    pub(crate) fn on_worker_lost(&mut self, stream: u64) {
        let Some(s) = self.streams.get_mut(&stream) else { return };
        let (worker, was_open) = (s.worker, s.is_open_at_worker);
        s.is_open_at_worker = false;
        if was_open && self.workers[worker].stream == Some(stream) {
            self.stream_lost(worker);
        }
        self.forget_stream(stream);
    }

    fn forget_stream(&mut self, stream: u64) {
        if self.streams.get(&stream).is_some_and(|s| !s.is_open_at_node && !s.is_open_at_worker) {
            self.streams.remove(&stream);
        }
    }
}

fn end_of(caller: Caller) -> Option<End> {
    match caller {
        Caller::Client { client, .. } => Some(End::Client(client)),
        Caller::Worker { worker } => Some(End::Worker(worker)),
        Caller::Nobody => None,
    }
}
