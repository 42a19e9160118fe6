//! What can go wrong, by name. Each kind is counted where it really happens, not where it is planned.

macro_rules! faults {
    ($($name:ident = $text:literal,)*) => {
        /// One kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Fault { $($name,)* }
        impl Fault {
            pub const ALL: &[Fault] = &[$(Fault::$name,)*];
            pub const fn name(self) -> &'static str { match self { $(Fault::$name => $text,)* } }
        }
    };
}

faults! {
    NetDrop = "net-drop",
    NetDup = "net-dup",
    NetReorder = "net-reorder",
    NetDelay = "net-delay",
    Partition = "partition",
    StreamBreak = "stream-break",
    HalfOpen = "half-open",
    Crash = "crash",
    CrashLost = "crash-lost-commits",
    Pause = "pause",
    TakeOver = "take-over",
    StoreRefused = "store-refused",
    UnknownWritten = "unknown-written",
    UnknownLost = "unknown-lost",
    UnknownLate = "unknown-late",
    StoreSlow = "store-slow",
    StoreFull = "store-full",
    ClaimFailed = "claim-failed",
    ClockForward = "clock-forward",
    ClockBack = "clock-back",
    ClockSkew = "clock-skew",
    CallDropped = "call-dropped",
    WorkerCrash = "worker-crash",
    WorkerForgets = "worker-forgets",
    HeartbeatLost = "heartbeat-lost",
    Lie = "worker-lies",
    NoAck = "offer-not-acked",
    NoStart = "never-started",
    OfferRefused = "offer-refused",
    Poison = "poison-job",
    CancelIgnored = "cancel-ignored",
    PolicyFlip = "policy-flip",
    PolicyOutage = "policy-outage",
    TopicPause = "topic-pause",
    SettingsChange = "settings-change",
}

impl Fault {
    pub const COUNT: usize = Fault::ALL.len();

    pub fn from_name(name: &str) -> Option<Fault> {
        Fault::ALL.iter().copied().find(|f| f.name() == name)
    }
}

/// A set of fault kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultSet(u64);

impl FaultSet {
    pub const NONE: FaultSet = FaultSet(0);

    pub fn has(self, fault: Fault) -> bool {
        self.0 & (1 << fault as u8) != 0
    }
    pub fn add(&mut self, fault: Fault) {
        self.0 |= 1 << fault as u8;
    }
    pub fn remove(&mut self, fault: Fault) {
        self.0 &= !(1 << fault as u8);
    }
    pub fn iter(self) -> impl Iterator<Item = Fault> {
        Fault::ALL.iter().copied().filter(move |f| self.has(*f))
    }
}
