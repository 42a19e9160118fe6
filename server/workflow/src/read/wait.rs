//! Steps that wait: for a time, or for a signal.

use super::{Reader, template};
use crate::expression::Template;
use crate::limits::*;
use crate::model::{Delay, WaitEvent};
use coretex_document::{Node, Spot, span};
use coretex_domain::names::{self, shown};

pub(crate) const WAIT_EVENT_KEYS: &[&str] = &["name", "match", "timeout"];

impl Reader {
    /// `delay: 5m`, or an expression.
    pub(super) fn delay(&mut self, spot: &Spot, path: &str) -> Option<Delay> {
        let told = match &spot.value {
            Node::Text(source) if source.contains("${") => {
                return self.expression(spot, path, "${input.wait}").map(Delay::Computed);
            }
            Node::Text(source) => match span::parse(source) {
                Ok(found) if (TIMER_MIN..=TIMER_MAX).contains(&found) => return Some(Delay::Fixed(found)),
                Ok(_) => format!("is {}, outside of {TIMER_MIN} … {TIMER_MAX}", shown(source)),
                Err(told) => told,
            },
            Node::Whole(value) => format!("is {value} without a unit; write 500ms, 30s, 5m, 1h30m or 2d"),
            other => format!("is {}, where a length of time is wanted, as in 5m", other.kind()),
        };
        self.notes.at(spot, path, told);
        None
    }

    /// `until: "2027-01-01T00:00:00Z"`, or expressions that give it.
    pub(super) fn until(&mut self, spot: &Spot, path: &str) -> Option<Template> {
        let found = template(spot, path, &mut self.notes)?;
        if let Some(fixed) = found.fixed()
            && coretex_domain::filter::parse_time(fixed).is_err()
        {
            let told = format!("is {}, where a time is wanted, as in 2027-01-01T00:00:00Z", shown(fixed));
            self.notes.at(spot, path, told);
            return None;
        }
        Some(found)
    }

    /// `wait_event: {name, match, timeout}`; the name may stand for all of it.
    pub(super) fn wait_event(&mut self, spot: &Spot, path: &str) -> Option<WaitEvent> {
        if let Node::Text(_) = spot.value {
            let name = coretex_document::text(spot, path, NAME_LEN_MAX, &mut self.notes)?;
            self.event_name(spot, path, &name);
            return Some(WaitEvent { name, matching: None, timeout: None });
        }
        let fields = self.notes.map(spot, path, WAIT_EVENT_KEYS)?;
        let name = fields.text("name", NAME_LEN_MAX, &mut self.notes);
        match (&name, fields.spot("name")) {
            (Some(name), Some(at)) => self.event_name(at, &fields.path("name"), name),
            (None, None) => self.notes.at(spot, &fields.path("name"), "is missing; it names the signal"),
            _ => {}
        }
        let matching = fields.spot("match").and_then(|spot| self.condition(spot, &fields.path("match")));
        let timeout = fields.span("timeout", TIMER_MIN, TIMER_MAX, &mut self.notes);
        Some(WaitEvent { name: name?, matching, timeout })
    }

    fn event_name(&mut self, spot: &Spot, path: &str, name: &str) {
        if let Err(told) = names::check_topic(name) {
            self.notes.at(spot, path, told);
        }
    }
}
