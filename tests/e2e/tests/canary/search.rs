//! What is looked for: a value, and all that programs write in its place. Made here by hand, not with the redactor under test.

use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// A value that is to be nowhere.
pub(crate) struct Canary {
    pub(crate) value: String,
    needles: Vec<(&'static str, Vec<u8>)>,
}

fn json(text: &str) -> String {
    serde_json::to_string(text).expect("a text")
}

fn inner(quoted: &str) -> String {
    quoted[1..quoted.len() - 1].to_owned()
}

fn percent(text: &str, is_upper: bool, space: &str) -> String {
    let one = |byte: u8| match byte {
        b' ' if !space.is_empty() => space.to_owned(),
        byte if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => char::from(byte).to_string(),
        byte if is_upper => format!("%{byte:02X}"),
        byte => format!("%{byte:02x}"),
    };
    text.bytes().map(one).collect()
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// The part of longer base64 that only the value decides, when so many bytes come before it.
fn base64(text: &str, before: usize, engine: &impl base64::Engine) -> String {
    let bytes = [&vec![0; before], text.as_bytes()].concat();
    engine.encode(&bytes)[(before * 8).div_ceil(6)..bytes.len() * 8 / 6].to_owned()
}

/// Every way to write a text.
pub(crate) fn ways(text: &str) -> Vec<(&'static str, String)> {
    let mut ways = vec![
        ("plain", text.to_owned()),
        ("JSON", inner(&json(text))),
        ("JSON in JSON", inner(&json(&inner(&json(text))))),
        ("debug", inner(&format!("{text:?}"))),
        ("percent", percent(text, true, "")),
        ("percent, small", percent(text, false, "")),
        ("form", percent(text, true, "+")),
        ("hex", hex(text)),
        ("HEX", hex(text).to_uppercase()),
    ];
    for (name, before) in [("base64, at 0", 0), ("base64, at 1", 1), ("base64, at 2", 2)] {
        ways.push((name, base64(text, before, &STANDARD)));
        ways.push((name, base64(text, before, &URL_SAFE)));
    }
    ways
}

impl Canary {
    pub(crate) fn new() -> Canary {
        let chance = format!("{:016x}", rand::random::<u64>());
        let value = format!("Canary?{chance}/é \"+\\%~end");
        let mut needles: Vec<_> =
            ways(&value).into_iter().map(|(name, text)| (name, text.into_bytes())).collect();
        needles.push(("its part that is chance", chance[..12].into()));
        needles.push(("the hex of that", hex(&chance[..12]).into_bytes()));
        Canary { value, needles }
    }

    /// Ways in which it is in there.
    pub(crate) fn hits(&self, text: &[u8]) -> Vec<&'static str> {
        let is_in = |needle: &[u8]| memchr::memmem::find(text, needle).is_some();
        self.needles.iter().filter(|(_, needle)| is_in(needle)).map(|(name, _)| *name).collect()
    }
}

#[test]
fn the_search_finds_what_is_there() {
    let canary = Canary::new();
    for (name, text) in ways(&canary.value) {
        assert!(canary.hits(format!("a {text} b").as_bytes()).contains(&name), "{name}");
    }
    assert_eq!(canary.hits(b"nothing of the kind"), [""; 0]);
}
