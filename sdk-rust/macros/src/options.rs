//! What stands between the parentheses of `#[job(…)]`.

use proc_macro2::TokenStream;
use std::time::Duration;
use syn::parse::Parser as _;
use syn::{Error, LitInt, LitStr, Result};

const NAMES: [&str; 8] = ["topic", "retries", "timeout", "priority", "pool", "slots", "lane", "idempotent"];

#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) topic: Option<String>,
    pub(crate) retries: Option<u32>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) priority: Option<u8>,
    pub(crate) pool: Option<String>,
    pub(crate) slots: Option<u32>,
    pub(crate) lane: Option<String>,
    pub(crate) idempotent: bool,
}

impl Options {
    pub(crate) fn parse(tokens: TokenStream) -> Result<Self> {
        let mut options = Self::default();
        let mut seen = Vec::new();
        syn::meta::parser(|meta| {
            let name = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
            if seen.contains(&name) {
                return Err(meta.error(format!("`{name}` is given twice")));
            }
            match name.as_str() {
                "topic" => {
                    let topic: LitStr = meta.value()?.parse()?;
                    options.topic = Some(check_topic(&topic)?);
                }
                "retries" => {
                    let retries: LitInt = meta.value()?.parse()?;
                    let count: u32 = retries.base10_parse()?;
                    if count > 99 {
                        return Err(Error::new(retries.span(), "at most 99 retries"));
                    }
                    options.retries = Some(count);
                }
                "timeout" => options.timeout = Some(duration(&meta.value()?.parse()?)?),
                "priority" => {
                    let priority: LitInt = meta.value()?.parse()?;
                    let level: u8 = priority.base10_parse()?;
                    if level > 9 {
                        return Err(Error::new(priority.span(), "a priority is 0 (last) to 9 (first)"));
                    }
                    options.priority = Some(level);
                }
                "pool" => options.pool = Some(meta.value()?.parse::<LitStr>()?.value()),
                "slots" => options.slots = Some(meta.value()?.parse::<LitInt>()?.base10_parse()?),
                "lane" => options.lane = Some(meta.value()?.parse::<LitStr>()?.value()),
                "idempotent" => options.idempotent = true,
                other => return Err(meta.error(unknown(other))),
            }
            seen.push(name);
            Ok(())
        })
        .parse2(tokens)?;
        Ok(options)
    }
}

fn unknown(name: &str) -> String {
    let near =
        NAMES.iter().min_by_key(|known| distance(known, name)).filter(|known| distance(known, name) <= 2);
    match near {
        Some(near) => format!("there is no option `{name}`; did you mean `{near}`?"),
        None => format!("there is no option `{name}`; there are {}", NAMES.join(", ")),
    }
}

/// Edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = corner + usize::from(from != *to);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

fn check_topic(topic: &LitStr) -> Result<String> {
    let name = topic.value();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_topic = name.starts_with(plain)
        && name.len() <= 128
        && name.chars().all(|c| plain(c) || matches!(c, '.' | '_' | '-'));
    match is_topic {
        true => Ok(name),
        false => {
            Err(Error::new(topic.span(), format!("`{name}` is not a topic: [a-z0-9][a-z0-9._-]{{0,127}}")))
        }
    }
}

fn duration(text: &LitStr) -> Result<Duration> {
    let value = text.value();
    let at = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (number, unit) = value.split_at(at);
    let scale = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" | "min" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    let millis = scale.zip(number.parse::<u64>().ok()).and_then(|(scale, number)| number.checked_mul(scale));
    match millis {
        Some(millis) if millis > 0 => Ok(Duration::from_millis(millis)),
        _ => Err(Error::new(text.span(), "a span is a number with a unit: `500ms`, `30s`, `5m`, `1h`")),
    }
}
