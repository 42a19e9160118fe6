//! Which step comes before which. Every list of steps is a graph of its own; what a step of a group may look back on is
//! also what its group may.

use super::{Findings, Found, path_of};
use crate::model::Step;
use coretex_domain::names::shown;
use coretex_domain::nearest::hint;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Where a step lies: from the outermost list inwards, each list and the place in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain(pub(crate) Vec<(usize, usize)>);

/// All lists of a workflow.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    lists: Vec<List>,
}

#[derive(Debug)]
struct List {
    path: String,
    ids: Vec<Arc<str>>,
    places: Vec<(u64, u64)>,
    needs: Vec<Vec<usize>>,
    /// Of each step a bit for every step of the list that is over before it.
    before: Vec<Vec<u64>>,
}

// === impl Lists ===

impl Lists {
    /// Files a list and those in it.
    pub(super) fn file<'d>(
        &mut self,
        steps: &'d [Step],
        path: &str,
        outer: &Chain,
        found: &mut Found<'d>,
        findings: &mut Findings,
    ) {
        let number = self.lists.len();
        self.lists.push(List {
            path: path.into(),
            ids: steps.iter().map(|step| step.id.clone()).collect(),
            places: steps.iter().map(|step| step.place).collect(),
            needs: Vec::new(),
            before: Vec::new(),
        });
        for (n, step) in steps.iter().enumerate() {
            let own = path_of(path, n, step);
            let mut chain = outer.clone();
            chain.0.push((number, n));
            if let Some((first, _)) = found.get(&step.id) {
                findings.twice(&own, step, first);
            } else if !step.id.is_empty() {
                found.insert(step.id.clone(), (step, chain.clone()));
            }
            if !step.inner().is_empty() {
                self.file(step.inner(), &format!("{own}.{}", step.word()), &chain, found, findings);
            }
        }
        let needs = needs_of(steps, path, found, findings);
        self.lists[number].needs = needs;
    }

    /// Works out what comes before what, and finds circles.
    pub(super) fn close(&mut self, findings: &mut Findings) {
        for list in &mut self.lists {
            list.close(findings);
        }
    }

    /// True if `earlier` of a list is over before `later` of it begins.
    pub(crate) fn is_before(&self, list: usize, earlier: usize, later: usize) -> bool {
        let bits = self.lists.get(list).and_then(|list| list.before.get(later));
        bits.and_then(|bits| bits.get(earlier / 64)).is_some_and(|word| word >> (earlier % 64) & 1 == 1)
    }
}

/// The needs of each step as places in its list.
fn needs_of(steps: &[Step], path: &str, found: &Found<'_>, findings: &mut Findings) -> Vec<Vec<usize>> {
    let numbers: FxHashMap<&str, usize> =
        steps.iter().enumerate().rev().map(|(n, step)| (&*step.id, n)).collect();
    let mut all = Vec::with_capacity(steps.len());
    for (n, step) in steps.iter().enumerate() {
        let mut own = Vec::with_capacity(step.needs.len());
        for (id, place) in &step.needs {
            let told = match numbers.get(&**id) {
                Some(other) if *other == n => "is the step itself".to_owned(),
                Some(other) => {
                    own.push(*other);
                    continue;
                }
                None if found.contains_key(id) => {
                    format!("names {}, which is in another list; a step waits for steps beside it", shown(id))
                }
                None => {
                    let names = steps.iter().map(|step| &*step.id).filter(|name| **name != *step.id);
                    format!("names {}, and there is no such step beside it{}", shown(id), hint(id, names))
                }
            };
            findings.problem(*place, &format!("{}.needs", path_of(path, n, step)), told);
        }
        all.push(own);
    }
    all
}

// === impl List ===

impl List {
    fn close(&mut self, findings: &mut Findings) {
        let count = self.ids.len();
        let mut waits: Vec<usize> = self.needs.iter().map(Vec::len).collect();
        let mut after: Vec<Vec<usize>> = vec![Vec::new(); count];
        for (n, needs) in self.needs.iter().enumerate() {
            needs.iter().for_each(|need| after[*need].push(n));
        }
        self.before = vec![vec![0; count.div_ceil(64)]; count];
        let mut ready: Vec<usize> = (0..count).filter(|n| waits[*n] == 0).collect();
        let mut done = 0;
        while let Some(n) = ready.pop() {
            done += 1;
            let own = std::mem::take(&mut self.before[n]);
            for later in &after[n] {
                let bits = &mut self.before[*later];
                bits.iter_mut().zip(&own).for_each(|(bit, own)| *bit |= own);
                bits[n / 64] |= 1 << (n % 64);
                waits[*later] -= 1;
                if waits[*later] == 0 {
                    ready.push(*later);
                }
            }
            self.before[n] = own;
        }
        if done < count {
            self.tell_circle(&waits, findings);
        }
    }

    /// Tells one circle among the steps that never get ready.
    fn tell_circle(&self, waits: &[usize], findings: &mut Findings) {
        let Some(first) = waits.iter().position(|left| *left > 0) else { return };
        let (mut seen, mut at, mut walk) = (vec![false; waits.len()], first, Vec::new());
        while !seen[at] {
            seen[at] = true;
            walk.push(at);
            let Some(next) = self.needs[at].iter().find(|need| waits[**need] > 0) else { return };
            at = *next;
        }
        let from = walk.iter().position(|n| *n == at).unwrap_or(0);
        let circle: Vec<&str> = walk[from..].iter().chain([&at]).map(|n| &*self.ids[*n]).collect();
        let field = format!("{}[{at}]({}).needs", self.path, self.ids[at]);
        let told = if circle.len() > 12 {
            format!("goes in a circle of {} steps: {} …", circle.len() - 1, circle[..12].join(" → "))
        } else {
            format!("goes in a circle: {}", circle.join(" → "))
        };
        findings.problem(self.places[at], &field, told);
    }
}
