//! Lengths of time as people write them: `90s`, `5m`, `1h30m`, `500ms`, `2d`.

use coretex_domain::Span;
use coretex_domain::names::shown;

/// Units, longest name first so that `ms` is not read as `m`.
const UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000), ("w", 604_800_000)];

/// Reads a length: whole numbers, each with its unit.
pub fn parse(text: &str) -> Result<Span, String> {
    let wrong =
        || format!("is {}; write whole numbers with units, as in 500ms, 30s, 5m, 1h30m, 2d", shown(text));
    let (mut rest, mut total) = (text.trim(), 0u64);
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let unit = rest[digits..].bytes().take_while(u8::is_ascii_lowercase).count();
        let (number, name) = (&rest[..digits], &rest[digits..digits + unit]);
        let Some((_, scale)) = UNITS.iter().find(|(known, _)| *known == name) else { return Err(wrong()) };
        if number.is_empty() {
            return Err(wrong());
        }
        let too_long = || format!("is {}, longer than can be counted", shown(text));
        let number: u64 = number.parse().map_err(|_| too_long())?;
        total = number.checked_mul(*scale).and_then(|ms| total.checked_add(ms)).ok_or_else(too_long)?;
        rest = &rest[digits + unit..];
    }
    Ok(Span(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_with_their_units() {
        for (text, ms) in
            [("5m", 300_000), ("500ms", 500), ("1h30m", 5_400_000), ("2d", 172_800_000), ("0s", 0)]
        {
            assert_eq!(parse(text), Ok(Span(ms)), "{text}");
        }
        for bad in
            ["", "5", "m", "5 m", "-5m", "1.5h", "5M", "5mx", "99999999999999999999s", "999999999999999999d"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for ms in [0, 1, 999, 1_000, 90_000, 3_600_000, 86_400_000, 604_800_000, u64::MAX] {
            assert_eq!(parse(&Span(ms).to_string()), Ok(Span(ms)));
        }
        assert_eq!(
            (Span::mins(5).to_string(), Span::days(7).to_string()),
            ("5m".to_owned(), "7d".to_owned())
        );
    }
}
