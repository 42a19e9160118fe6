//! One field of a cron expression: lists of values, ranges and steps, as a set of bits.

use coretex_domain::names::shown;

/// What a field may hold.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) least: u8,
    pub(crate) most: u8,
    /// Names of values, the first for `least`.
    pub(crate) names: &'static [&'static str],
}

/// The values of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) bits: u64,
    /// It begins with `*`, and so is no restriction by itself.
    pub(crate) is_free: bool,
}

impl Field {
    pub(crate) fn has(self, value: u8) -> bool {
        self.bits & (1 << value) != 0
    }
}

impl Shape {
    /// Reads a field. What is wrong is said with the name of the field and what it may hold.
    pub(crate) fn read(&self, text: &str) -> Result<Field, String> {
        let mut bits = 0;
        for item in text.split(',') {
            bits |= self.item(item)?;
        }
        Ok(Field { bits, is_free: text.starts_with('*') })
    }

    fn item(&self, item: &str) -> Result<u64, String> {
        let (range, step) = match item.split_once('/') {
            None => (item, None),
            Some((range, step)) => (range, Some(self.step(item, step)?)),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (self.least, self.most),
            Some((first, last)) => (self.value(item, first)?, self.value(item, last)?),
            None => {
                let first = self.value(item, range)?;
                // `5/10` goes on to the end of the range, `5` is only itself.
                (first, if step.is_some() { self.most } else { first })
            }
        };
        if first > last {
            return Err(self.refuse(item, "the range runs backwards"));
        }
        let steps = (first..=last).step_by(usize::from(step.unwrap_or(1)));
        Ok(steps.fold(0, |bits, value| bits | 1 << value))
    }

    fn step(&self, item: &str, text: &str) -> Result<u8, String> {
        let step = number(text).filter(|step| (1..=self.most).contains(step));
        step.ok_or_else(|| self.refuse(item, &format!("a step is 1..={}", self.most)))
    }

    fn value(&self, item: &str, text: &str) -> Result<u8, String> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let named = named.and_then(|place| u8::try_from(place).ok()).map(|place| self.least + place);
        let value = named.or_else(|| number(text)).filter(|value| (self.least..=self.most).contains(value));
        value.ok_or_else(|| {
            let names = match self.names {
                [first, .., last] => format!(" or {first}..={last}"),
                _ => String::new(),
            };
            self.refuse(item, &format!("values are {}..={}{names}", self.least, self.most))
        })
    }

    fn refuse(&self, item: &str, rule: &str) -> String {
        format!("{}: {rule}, got {}", self.name, shown(item))
    }
}

fn number(text: &str) -> Option<u8> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
