//! What a text gives away by the names of its fields: their values are taken out, whatever they are.

use std::ops::Range;

/// What stands in the place of a value.
pub const REDACTED: &str = "[redacted]";
const QUOTED: &[u8] = b"\"[redacted]\"";

/// Parts of names whose values are not shown, in lower case and without `_` and `-`.
const PARTS: [&str; 5] = ["password", "secret", "token", "apikey", "authorization"];

/// Replaces in a JSON text the value of every field whose name has one of `password`, `secret`, `token`, `api_key` and
/// `authorization` in it. None if there is nothing to replace. Counts such as `tokens_in` stay: numbers under names with `tokens`.
pub fn by_key(json: &[u8]) -> Option<Vec<u8>> {
    let mut out: Option<Vec<u8>> = None;
    let (mut at, mut copied) = (0, 0);
    while let Some(start) = find_quote(json, at) {
        let end = string_end(json, start);
        at = end;
        let colon = skip_space(json, end);
        if json.get(colon) != Some(&b':') {
            continue;
        }
        let value = value_at(json, skip_space(json, colon + 1));
        if value.is_empty() || !is_telling(json.get(start..end).unwrap_or_default(), json.get(value.start)) {
            continue;
        }
        let out = out.get_or_insert_default();
        out.extend_from_slice(json.get(copied..value.start).unwrap_or_default());
        out.extend_from_slice(QUOTED);
        (at, copied) = (value.end, value.end);
    }
    let mut out = out?;
    out.extend_from_slice(json.get(copied..).unwrap_or_default());
    Some(out)
}

/// True if the value of a field of this name is not to be shown.
pub fn is_telling_name(name: &str) -> bool {
    let plain: String =
        name.chars().filter(|c| !matches!(c, '_' | '-')).map(|c| c.to_ascii_lowercase()).collect();
    PARTS.iter().any(|part| plain.contains(part))
}

/// The same of a name in quotes; `first` is the first byte of the value.
fn is_telling(quoted: &[u8], first: Option<&u8>) -> bool {
    let name: String = match quoted.contains(&b'\\') {
        true => serde_json::from_slice(quoted).unwrap_or_default(),
        false => String::from_utf8_lossy(quoted).into_owned(),
    };
    let is_number = first.is_some_and(|byte| byte.is_ascii_digit() || *byte == b'-');
    is_telling_name(&name) && !(is_number && name.to_ascii_lowercase().contains("tokens"))
}

fn find_quote(json: &[u8], from: usize) -> Option<usize> {
    json.get(from..)?.iter().position(|byte| *byte == b'"').map(|at| from + at)
}

/// Where the string that begins at a quote ends, quote included.
fn string_end(json: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = json.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    json.len()
}

fn skip_space(json: &[u8], from: usize) -> usize {
    let rest = json.get(from..).unwrap_or_default();
    from + rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// Where a value is: a string, a number, or a list or map to its end.
fn value_at(json: &[u8], start: usize) -> Range<usize> {
    let mut depth = 0_usize;
    let mut at = start;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' if depth == 0 => return start..string_end(json, at),
            b'"' => {
                at = string_end(json, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => break,
            b'}' | b']' if depth == 1 => return start..at + 1,
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => break,
            byte if depth == 0 && byte.is_ascii_whitespace() => break,
            _ => {}
        }
        at += 1;
    }
    start..at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(json: &str) -> Option<String> {
        by_key(json.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn values_under_telling_names_go_whatever_they_are() {
        let text = r#"{"user":"a","password" : "x\"y","db":{"API-Key":[1,{"a":"}"}],"n":1},"accessToken":17,"my_secret":{"a":{}},"tokens_in":5,"authorization":null}"#;
        let wanted = r#"{"user":"a","password" : "[redacted]","db":{"API-Key":"[redacted]","n":1},"accessToken":"[redacted]","my_secret":"[redacted]","tokens_in":5,"authorization":"[redacted]"}"#;
        let found = redacted(text).unwrap();
        assert_eq!(found, wanted);
        assert!(serde_json::from_str::<serde_json::Value>(&found).is_ok());
        assert_eq!(
            redacted("{\"pass\\u0077ord\":1}").as_deref(),
            Some("{\"pass\\u0077ord\":\"[redacted]\"}")
        );
    }

    #[test]
    fn what_gives_nothing_away_stays_and_what_is_cut_off_does_no_harm() {
        for fine in ["", "{}", "\"password\"", r#"{"a":"password"}"#, r#"["token","secret"]"#, "not json"] {
            assert_eq!(redacted(fine), None, "{fine}");
        }
        assert_eq!(redacted(r#"{"token":"ab"#).as_deref(), Some(r#"{"token":"[redacted]""#));
        assert_eq!(redacted(r#"{"token":{"a":"b"#).as_deref(), Some(r#"{"token":"[redacted]""#));
        assert_eq!(redacted(r#"{"token":"#), None);
    }
}
