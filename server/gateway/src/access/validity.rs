//! From when to when a certificate is valid: the one field of X.509 that is needed before the handshake.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Start and end of the validity of a DER certificate.
pub fn of(der: &[u8]) -> Option<(SystemTime, SystemTime)> {
    let mut certificate = Reader(der).open(0x30)?;
    let mut fields = certificate.open(0x30)?;
    if fields.0.first() == Some(&0xa0) {
        fields.next()?; // version
    }
    for _ in ["serial", "signature", "issuer"] {
        fields.next()?;
    }
    let mut validity = fields.open(0x30)?;
    Some((time(validity.next()?)?, time(validity.next()?)?))
}

/// Tag-length-value, one after the other.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first & 0x80 != 0 {
            let count = usize::from(first & 0x7f);
            if count == 0 || count > 4 {
                return None;
            }
            let (bytes, after) = rest.split_at_checked(count)?;
            length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            rest = after;
        }
        let (value, after) = rest.split_at_checked(length)?;
        self.0 = after;
        Some((tag, value))
    }

    fn open(&mut self, wanted: u8) -> Option<Reader<'a>> {
        self.next().filter(|(tag, _)| *tag == wanted).map(|(_, value)| Reader(value))
    }
}

/// UTCTime (two digits of the year) or GeneralizedTime, both in UTC.
fn time((tag, text): (u8, &[u8])) -> Option<SystemTime> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let text = match tag {
        0x17 => format!("{}{text}", if text.get(..2)?.parse::<u8>().ok()? < 50 { "20" } else { "19" }),
        0x18 => text.to_owned(),
        _ => return None,
    };
    let part = |from: usize, to: usize| text.get(from..to)?.parse::<i8>().ok();
    let year = text.get(..4)?.parse::<i16>().ok()?;
    let date = jiff::civil::DateTime::new(
        year,
        part(4, 6)?,
        part(6, 8)?,
        part(8, 10)?,
        part(10, 12)?,
        part(12, 14)?,
        0,
    )
    .ok()?;
    let seconds = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second();
    let span = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { UNIX_EPOCH.checked_sub(span) } else { UNIX_EPOCH.checked_add(span) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_time_are_read() {
        let expected = UNIX_EPOCH + Duration::from_secs(1_893_456_000);
        assert_eq!(time((0x17, b"300101000000Z")), Some(expected));
        assert_eq!(time((0x18, b"20300101000000Z")), Some(expected));
        assert_eq!(time((0x18, b"nonsense")), None);
    }

    #[test]
    fn damaged_certificates_are_refused() {
        for der in [&b""[..], b"\x30", b"\x30\x84\xff\xff\xff\xff", b"\x30\x03\x30\x01\x00"] {
            assert_eq!(of(der), None);
        }
    }
}
