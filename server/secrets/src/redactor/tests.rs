//! No part of a value survives any way of writing it.

use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::prelude::*;

fn redactor(values: &[&str]) -> Redactor {
    Redactor::of(values.iter().copied()).unwrap().unwrap()
}

/// Ways to write a text into another one.
const WAYS: usize = 16;

fn percent(text: &str, all: bool, upper: bool) -> String {
    let one = |byte: u8| match byte {
        byte if !all && byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte if upper => format!("%{byte:02X}"),
        byte => format!("%{byte:02x}"),
    };
    text.bytes().map(one).collect()
}

fn written(way: usize, text: &str) -> String {
    let json = |text: &str| serde_json::to_string(text).unwrap();
    match way {
        0 => text.to_owned(),
        1 => json(text),
        2 => json(&json(text)),
        3 => json(&format!("{{\"a\":{}}}", json(&format!("{text:?}")))),
        4 => format!("{text:?}"),
        5 => percent(text, false, true),
        6 => percent(text, true, false),
        7 => percent(text, false, true).replace("%20", "+"),
        8 => STANDARD.encode(text),
        9 => STANDARD_NO_PAD.encode(text),
        10 => URL_SAFE.encode(text),
        11 => URL_SAFE_NO_PAD.encode(text),
        12 => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        13 => text.bytes().map(|byte| format!("{byte:02X}")).collect(),
        14 => text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect(),
        15 => json(text).replace('/', "\\/"),
        other => panic!("way {other}"),
    }
}

/// The text as `way` wrote it, read again as far as it can be.
fn read_again(way: usize, text: &str) -> Vec<u8> {
    let decoded = |engine: &base64::engine::GeneralPurpose| {
        // The pieces around what was taken out have lost their alignment: each is tried in all four.
        let mut out = Vec::new();
        for piece in text.split(['[', ']']) {
            for skip in 0..4 {
                let piece: String = piece.chars().filter(|c| *c != '=').skip(skip).collect();
                let whole = piece.len() - piece.len() % 4;
                out.extend(engine.decode(&piece[..whole]).unwrap_or_default());
                out.push(b' ');
            }
        }
        out
    };
    match way {
        8 | 9 => decoded(&STANDARD_NO_PAD),
        10 | 11 => decoded(&URL_SAFE_NO_PAD),
        _ => text.as_bytes().to_vec(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_part_of_a_value_survives(
        value in "[a-zA-Zé/+=\"\\\\ \n😀%&-]{8,60}",
        before in "[0-9 .]{0,9}",
        after in "[0-9 .]{0,9}",
        way in 0..WAYS,
    ) {
        let redactor = redactor(&[&value]);
        let text = format!("{before}{value}{after}");
        let shown = redactor.redact_text(&written(way, &text));
        prop_assert!(shown.is_some(), "nothing found in {:?}", written(way, &text));
        let shown = shown.unwrap_or_default();
        prop_assert!(shown.contains(REDACTED));
        // Seven bytes of the value in a row are nowhere, however the rest is read.
        let left = read_again(way, &shown.replace(REDACTED, "[]"));
        let views = [View::plain(&left), View::plain(&left).unescaped(), View::plain(&left).unpercented()];
        for part in value.as_bytes().windows(7) {
            for view in &views {
                prop_assert!(memchr::memmem::find(&view.bytes, part).is_none(), "{part:?} in {shown:?}");
            }
            let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert!(!shown.to_lowercase().contains(&hex), "{hex} in {shown:?}");
        }
    }

    #[test]
    fn what_is_cut_anywhere_tells_less_than_eight_bytes(
        value in "[a-z\"]{9,40}", from in 0_usize..40, to in 0_usize..40,
        way in prop::sample::select(vec![0_usize, 1, 4]),
    ) {
        let redactor = redactor(&[&value]);
        let (from, to) = (from.min(to).min(value.len()), to.max(from).min(value.len()));
        // A text that was cut at one end.
        let whole = written(way, &value);
        let whole = if way == 0 { &*whole } else { whole.get(1..).unwrap_or_default() };
        let texts = [format!("0 1 {}", value.get(..to).unwrap_or_default()), format!("{} 2 3", value.get(from..).unwrap_or_default())];
        for text in texts {
            let shown = redactor.redact_text(&text).unwrap_or(text);
            for part in value.as_bytes().windows(8) {
                prop_assert!(memchr::memmem::find(shown.as_bytes(), part).is_none(), "{shown:?}");
            }
        }
        let cut = format!("0 {}… (60 bytes)", whole.get(..whole.floor_char_boundary(to)).unwrap_or_default());
        let shown = redactor.redact_text(&cut).unwrap_or(cut);
        for part in value.as_bytes().windows(8) {
            prop_assert!(memchr::memmem::find(shown.as_bytes(), part).is_none(), "{shown:?}");
        }
    }

    #[test]
    fn texts_without_values_stay_as_they_are(text in "[0-9 .,{}:\\[\\]\"]{0,80}") {
        prop_assert_eq!(redactor(&["correct horse battery"]).redact_text(&text), None);
    }
}

#[test]
fn values_that_overlap_or_begin_alike_are_all_found() {
    let long = "begins-alike-for-a-long-time-and-ends-in-one";
    let other = "begins-alike-for-a-long-time-and-ends-in-two";
    let short = "begins-alike";
    let redactor = redactor(&[long, other, short, "in-two-and-more"]);
    let shown = |text: &str| redactor.redact_text(text).unwrap_or_default();
    assert_eq!(shown(&format!("<{long}> <{other}> <{short}!>")), "<[redacted]> <[redacted]> <[redacted]!>");
    assert_eq!(shown(&format!("<{other}-and-more>")), "<[redacted]>");
    assert_eq!(shown("aabegins-alike-for-x"), "aa[redacted]-for-x");
    assert!(Redactor::of(["short", ""]).unwrap().is_none());
}

/// A megabyte without a value is searched in a time that is measured, not promised: it must only end.
#[test]
fn large_texts_are_searched_in_one_pass() {
    let values: Vec<String> = (0..1_000).map(|n| format!("value-number-{n:04}-of-many")).collect();
    let redactor = Redactor::of(values.iter().map(String::as_str)).unwrap().unwrap();
    let text = "x".repeat(1 << 20);
    assert!(redactor.find(text.as_bytes()).is_empty());
    let found = redactor.find(format!("{text}{}", values[999]).as_bytes());
    assert_eq!((found.len(), found.first()), (1, Some(&(1 << 20..(1 << 20) + 25))));
}
