//! The steps of a run as they stand, drawn again and again: one line for each.

use super::super::shown::clean;
use super::super::table;
use coretex_sdk::{Run, RunStep, StepState};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::time::{Duration, SystemTime};

/// Steps that are drawn: a picture taller than the terminal cannot be drawn again.
const LINES_MAX: usize = 30;
const BAR_WIDTH: u32 = 20;

/// A picture of a run on a terminal.
pub(super) struct Live {
    all: MultiProgress,
    lines: Vec<ProgressBar>,
    run: Option<Run>,
}

impl Live {
    pub(super) fn new() -> Live {
        Live { all: MultiProgress::new(), lines: Vec::new(), run: None }
    }

    /// Draws the run as it now stands.
    pub(super) fn show(&mut self, run: Run) {
        self.run = Some(run);
        self.tick();
    }

    /// Draws it again: time goes on.
    pub(super) fn tick(&mut self) {
        let Some(run) = &self.run else { return };
        let wanted = picture(run, SystemTime::now());
        while self.lines.len() < wanted.len() {
            let style =
                ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            self.lines.push(self.all.add(ProgressBar::new(0).with_style(style)));
        }
        for (line, text) in
            self.lines.iter().zip(wanted.iter().map(String::as_str).chain(std::iter::repeat("")))
        {
            line.set_message(clean(text));
        }
    }

    /// Takes the picture away.
    pub(super) fn clear(&self) {
        self.lines.iter().for_each(ProgressBar::finish_and_clear);
    }
}

/// The lines of a picture.
fn picture(run: &Run, now: SystemTime) -> Vec<String> {
    let time = spent(run.start_time.or(run.create_time), run.end_time, now);
    let mut lines = vec![format!("{}  {} {}  {}  {time}", run.run_id, run.workflow, run.version, run.state)];
    let shown = chosen(&run.steps);
    let width = shown.iter().map(|step| step.path.chars().count()).max().unwrap_or(0);
    lines.extend(shown.iter().map(|step| step_line(step, width, now)));
    let left = run.steps.len().saturating_sub(shown.len());
    if left > 0 || run.more_steps {
        lines.push(format!("  … {left} more steps"));
    }
    lines
}

/// The steps that are drawn: all of them, or, of many, those something happens to before those that wait or are over.
fn chosen(steps: &[RunStep]) -> Vec<&RunStep> {
    if steps.len() <= LINES_MAX {
        return steps.iter().collect();
    }
    let rank = |step: &RunStep| match step.state {
        StepState::Failed => 0,
        StepState::Running | StepState::Waiting | StepState::Ready => 1,
        StepState::Pending => 2,
        _ => 3,
    };
    let mut places: Vec<usize> = (0..steps.len()).collect();
    places.sort_by_key(|place| steps.get(*place).map(rank));
    places.truncate(LINES_MAX);
    places.sort_unstable();
    places.into_iter().filter_map(|place| steps.get(place)).collect()
}

fn step_line(step: &RunStep, width: usize, now: SystemTime) -> String {
    let mark = match step.state {
        StepState::Succeeded => "✓",
        StepState::Failed => "✗",
        StepState::Running => "▶",
        StepState::Waiting | StepState::Ready => "…",
        StepState::Skipped | StepState::Cancelled => "-",
        _ => " ",
    };
    let mut line = format!("  {mark} {:<width$}  {:<9}", step.path, step.state.as_str());
    if let Some(items) = step.items {
        let bar = filled(items.over, items.count);
        line.push_str(&format!("  {bar} {}/{}", items.over, items.count));
        if items.failed > 0 {
            line.push_str(&format!(", {} failed", items.failed));
        }
    }
    if step.attempts > 1 {
        line.push_str(&format!("  {} attempts", step.attempts));
    }
    let time = spent(step.start_time, step.end_time, now);
    if !time.is_empty() {
        line.push_str(&format!("  {time}"));
    }
    if let Some(due) = step.due_time.and_then(|due| due.duration_since(now).ok()) {
        line.push_str(&format!("  due in {}", table::rough(due)));
    }
    if let Some(undo) = step.undo_state {
        line.push_str(&format!("  undo {undo}"));
    }
    if let Some(error) = &step.error {
        line.push_str(&format!("  {}: {}", error.kind, error.message.replace('\n', " ")));
    }
    line
}

fn filled(over: u32, count: u32) -> String {
    let full = match count {
        0 => BAR_WIDTH,
        count => {
            u32::try_from(u64::from(over) * u64::from(BAR_WIDTH) / u64::from(count)).unwrap_or(BAR_WIDTH)
        }
    };
    (0..BAR_WIDTH).map(|at| if at < full { '█' } else { '░' }).collect()
}

fn spent(from: Option<SystemTime>, to: Option<SystemTime>, now: SystemTime) -> String {
    let Some(from) = from else { return String::new() };
    let span = to.unwrap_or(now).duration_since(from).unwrap_or(Duration::ZERO);
    table::rough(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_fill_a_bar() {
        assert_eq!(filled(0, 4).chars().filter(|c| *c == '█').count(), 0);
        assert_eq!(filled(1, 4).chars().filter(|c| *c == '█').count(), 5);
        assert_eq!(filled(4, 4), "█".repeat(20));
        assert_eq!(filled(0, 0), "█".repeat(20));
    }

    #[test]
    fn time_goes_on_until_the_end() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(spent(Some(at(10)), None, at(15)), "5s");
        assert_eq!(spent(Some(at(10)), Some(at(12)), at(15)), "2s");
        assert_eq!(spent(None, None, at(15)), "");
    }
}
