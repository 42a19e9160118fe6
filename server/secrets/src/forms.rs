//! The forms a value takes when programs write it into other texts: as it is, in hex, in base64. Escapes are read as views.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// Shorter values are in too many texts by chance.
pub const REDACTED_LEN_MIN: usize = 8;

/// One form of a value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Form {
    pub(crate) bytes: Box<[u8]>,
    /// Characters of base64 before and after that hold a part of the value beside a part of something else.
    pub(crate) mixed: (bool, bool),
    pub(crate) is_base64: bool,
}

/// All forms of a value that is long enough.
pub(crate) fn of(value: &str, forms: &mut Vec<Form>) {
    let bytes = value.as_bytes();
    if bytes.len() < REDACTED_LEN_MIN {
        return;
    }
    let plain = |bytes: Vec<u8>| Form { bytes: bytes.into(), mixed: (false, false), is_base64: false };
    forms.push(plain(bytes.to_vec()));
    forms.push(plain(hex(bytes, b"0123456789abcdef")));
    forms.push(plain(hex(bytes, b"0123456789ABCDEF")));
    for shift in 0..3 {
        forms.push(base64(bytes, shift, |bytes| STANDARD_NO_PAD.encode(bytes)));
        forms.push(base64(bytes, shift, |bytes| URL_SAFE_NO_PAD.encode(bytes)));
    }
}

fn hex(bytes: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    let digit = |nibble: u8| digits.get(usize::from(nibble)).copied().unwrap_or(b'0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// How the value looks inside longer base64, when so many bytes of a group of three come before it.
fn base64(bytes: &[u8], shift: usize, encode: impl Fn(&[u8]) -> String) -> Form {
    let mut padded = vec![0; shift];
    padded.extend_from_slice(bytes);
    let text = encode(&padded);
    let bits = padded.len() * 8;
    let own = (shift * 8).div_ceil(6)..bits / 6;
    let bytes = text.as_bytes().get(own).unwrap_or_default().into();
    Form { bytes, mixed: (shift > 0, !bits.is_multiple_of(6)), is_base64: true }
}

/// A character of base64, of either alphabet.
pub(crate) const fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_alignment_of_base64_is_known() {
        let value = "correct horse";
        let mut forms = Vec::new();
        of(value, &mut forms);
        for before in 0..7 {
            for after in 0..4 {
                let text =
                    STANDARD_NO_PAD.encode([&vec![7; before], value.as_bytes(), &vec![9; after]].concat());
                let hit = forms.iter().filter(|form| form.is_base64).any(|form| {
                    memchr::memmem::find(text.as_bytes(), &form.bytes).is_some() && form.bytes.len() >= 14
                });
                assert!(hit, "{before} {after} {text}");
            }
        }
        forms.clear();
        of("seven77", &mut forms);
        assert!(forms.is_empty());
    }
}
