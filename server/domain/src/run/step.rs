//! The steps of a run, in the lists that were begun.

use super::event::{At, Opening, Outcome, Trouble, Value, Work};
use super::state::StepState;
use crate::time::Time;
use serde::{Deserialize, Serialize};

/// A list of steps that was begun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scope {
    pub list: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<At>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    pub steps: Vec<Step>,
    /// Steps that are begun and not over.
    pub open: u32,
    /// Steps that are over.
    pub over: u32,
    /// Why it is being stopped, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closing: Option<Trouble>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "Row", into = "Row")]
pub struct Step {
    pub state: StepState,
    pub start_time: Option<Time>,
    pub end_time: Option<Time>,
    pub work: Option<Work>,
    /// What few steps have.
    pub more: Option<Box<More>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct More {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Trouble>,
    /// Where it is not the result of a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Attempts of its job, if it was not one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Items>,
    /// The lists begun for it, by number of the list as begun.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<u32>,
    /// How its undoing stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<StepState>,
}

/// The items of a step: a set of those that are over, never a count alone (I-24).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Items {
    pub count: u32,
    /// Those before this one were begun.
    pub begun: u32,
    pub over: Bits,
    pub failed: Bits,
}

/// A set of small numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bits(Vec<u64>);

/// A step as it is written: short, for there are many.
#[derive(Serialize, Deserialize)]
struct Row(u8, u64, u64, Option<Work>, Option<Box<More>>);

// === impl Row ===

impl From<Step> for Row {
    fn from(step: Step) -> Row {
        let time = |at: Option<Time>| at.map_or(0, |at| at.0);
        Row(step.state as u8, time(step.start_time), time(step.end_time), step.work, step.more)
    }
}

impl From<Row> for Step {
    fn from(Row(state, start, end, work, more): Row) -> Step {
        let time = |at: u64| (at > 0).then_some(Time(at));
        // A number of a later release is a step that is not begun: the fold of the history tells the difference.
        let state = StepState::from_number(state).unwrap_or(StepState::Pending);
        Step { state, start_time: time(start), end_time: time(end), work, more }
    }
}

// === impl Bits ===

impl Bits {
    /// Takes a number in. False if it was there.
    pub fn insert(&mut self, n: u32) -> bool {
        let (word, bit) = (n as usize / 64, n % 64);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let is_new = self.0[word] >> bit & 1 == 0;
        self.0[word] |= 1 << bit;
        is_new
    }

    pub fn has(&self, n: u32) -> bool {
        self.0.get(n as usize / 64).is_some_and(|word| word >> (n % 64) & 1 == 1)
    }

    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }
}

// === impl Items ===

impl Items {
    /// Begun and not over.
    pub fn open(&self) -> u32 {
        self.begun.saturating_sub(self.over.count())
    }

    pub fn is_open(&self, index: u32) -> bool {
        index < self.begun && !self.over.has(index)
    }
}

// === impl Step ===

impl Default for Step {
    fn default() -> Step {
        Step { state: StepState::Pending, start_time: None, end_time: None, work: None, more: None }
    }
}

impl Step {
    pub fn error(&self) -> Option<&Trouble> {
        self.more.as_ref()?.error.as_ref()
    }

    pub fn items(&self) -> Option<&Items> {
        self.more.as_ref()?.items.as_ref()
    }

    pub fn scopes(&self) -> &[u32] {
        self.more.as_ref().map_or(&[], |more| &more.scopes)
    }

    pub fn attempts(&self) -> u32 {
        let counted = self.more.as_ref().and_then(|more| more.attempts);
        let is_job = matches!(self.work, Some(Work::Job | Work::Approval));
        counted.unwrap_or(u32::from(is_job && self.state == StepState::Succeeded))
    }

    pub fn is_open(&self) -> bool {
        matches!(self.state, StepState::Running | StepState::Waiting)
    }

    pub(super) fn more_mut(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    pub(super) fn start(&mut self, work: Work, time: Time) {
        self.state = match work {
            Work::Job | Work::Items { .. } | Work::Group | Work::Groups { .. } => StepState::Running,
            Work::Approval | Work::Timer { .. } | Work::Signal { .. } => StepState::Waiting,
        };
        self.start_time = Some(time);
        self.work = Some(work);
        match work {
            Work::Items { count } => self.more_mut().items = Some(Items { count, ..Items::default() }),
            Work::Groups { count } => self.more_mut().items = Some(Items { count, ..Items::default() }),
            Work::Job | Work::Approval | Work::Group | Work::Timer { .. } | Work::Signal { .. } => {}
        }
    }

    pub(super) fn end(&mut self, outcome: &Outcome, time: Time) {
        self.state = outcome.state;
        self.end_time = Some(time);
        let is_usual = outcome.attempts == u32::from(outcome.state == StepState::Succeeded);
        if outcome.error.is_some() || outcome.output.is_some() || !is_usual {
            let attempts = (!is_usual).then_some(outcome.attempts);
            let more = self.more_mut();
            more.error.clone_from(&outcome.error);
            more.output.clone_from(&outcome.output);
            more.attempts = attempts;
        }
    }
}

// === impl Scope ===

impl Scope {
    pub(super) fn new(opening: Opening) -> Scope {
        Scope {
            list: opening.list,
            owner: opening.owner,
            index: opening.index,
            steps: vec![Step::default(); opening.size as usize],
            open: 0,
            over: 0,
            closing: None,
        }
    }

    pub fn is_over(&self) -> bool {
        self.open == 0 && (self.closing.is_some() || self.over as usize == self.steps.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_written_short_and_read_back() {
        let mut step = Step::default();
        assert_eq!(serde_json::to_string(&step).unwrap(), "[1,0,0,null,null]");
        step.start(Work::Items { count: 3 }, Time(5));
        step.more_mut().items.as_mut().unwrap().over.insert(70);
        step.end(
            &Outcome::failed(Trouble { step: "a".into(), kind: "K".into(), message: "m".into() }),
            Time(9),
        );
        let text = serde_json::to_string(&step).unwrap();
        assert_eq!(serde_json::from_str::<Step>(&text).unwrap(), step, "{text}");
    }

    #[test]
    fn bits_are_a_set() {
        let mut bits = Bits::default();
        assert!(bits.insert(64) && !bits.insert(64) && bits.insert(0));
        assert!(bits.has(64) && !bits.has(63) && !bits.has(9_999));
        assert_eq!((bits.count(), bits.is_empty()), (2, false));
    }
}
