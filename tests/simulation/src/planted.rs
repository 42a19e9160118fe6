//! Faults planted on purpose: those inside the kernel, and those of the shell around it.
//!
//! Several shell faults are defects this simulator once found in the engine; planting them keeps the tests honest.

use coretex_kernel::mutant::Mutant;

macro_rules! shell_faults {
    ($($name:ident = $text:literal, $doc:literal;)*) => {
        /// One planted fault of the shell.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Shell { $(#[doc = $doc] $name,)* }
        impl Shell {
            pub const ALL: &[Shell] = &[$(Shell::$name,)*];
            pub const fn name(self) -> &'static str { match self { $(Shell::$name => $text,)* } }
            pub const fn meaning(self) -> &'static str { match self { $(Shell::$name => $doc,)* } }
        }
    };
}

shell_faults! {
    EpochNotChecked = "epoch-not-checked", "The store takes groups of an owner that was replaced.";
    DepartedEarly = "departed-early", "Look-ups count jobs as gone from memory before that is committed.";
    BatchHalfRefused = "batch-half-refused", "A batch is refused as a whole after a part of it was committed.";
    ReportsKept = "reports-kept", "Reports in flight at a reload are remembered as received.";
    ClockNotRaised = "clock-not-raised", "A new owner's clock may stand behind the history it goes on with.";
    TopicChangeDropped = "topic-change-dropped", "A topic change stops half-way when its caller goes away.";
    EffectsBeforeCommit = "effects-before-commit", "Leases are handed out before their commit is known.";
    ReplyUnnumbered = "reply-unnumbered", "Records in answers are from the middle of their turn.";
    AlarmNotCapped = "alarm-not-capped", "A loop sleeps through a forward jump of the wall clock.";
    GateOpen = "gate-open", "The store takes later groups of an epoch although an earlier one was refused.";
}

/// One planted fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    Kernel(Mutant),
    Shell(Shell),
}

impl Planted {
    pub fn all() -> impl Iterator<Item = Planted> {
        let kernel = Mutant::ALL.iter().map(|m| Planted::Kernel(*m));
        kernel.chain(Shell::ALL.iter().map(|s| Planted::Shell(*s)))
    }

    pub fn name(self) -> &'static str {
        match self {
            Planted::Kernel(mutant) => mutant.name(),
            Planted::Shell(shell) => shell.name(),
        }
    }

    pub fn meaning(self) -> &'static str {
        match self {
            Planted::Kernel(mutant) => mutant.meaning(),
            Planted::Shell(shell) => shell.meaning(),
        }
    }

    pub fn from_name(name: &str) -> Option<Planted> {
        Planted::all().find(|p| p.name() == name)
    }

    pub(crate) fn kernel(self) -> Option<Mutant> {
        match self {
            Planted::Kernel(mutant) => Some(mutant),
            Planted::Shell(_) => None,
        }
    }
}
