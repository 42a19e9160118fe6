//! A value nobody sees by accident.

use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Longest name of a secret.
pub const NAME_LEN_MAX: usize = 64;
/// Largest value, bytes.
pub const VALUE_LEN_MAX: usize = 64 << 10;

/// A value that is shown only where [`expose`](Secret::expose) stands. Clones share it; the last one wipes it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<Zeroizing<String>>);

// === impl Secret ===

impl Secret {
    /// Checks a value: 1 byte to 64 KiB, and not itself the name of another.
    pub fn new(value: String) -> Result<Secret, String> {
        let value = Zeroizing::new(value);
        match value.len() {
            0 => return Err("has an empty value; it must have at least 1 byte".into()),
            1..=VALUE_LEN_MAX => {}
            len => return Err(format!("has a value of {len} bytes, more than {VALUE_LEN_MAX}")),
        }
        if value.starts_with(crate::refs::SCHEME) {
            return Err("has a value that is itself a reference".into());
        }
        Ok(Secret(Arc::new(value)))
    }

    /// The value.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Checks the name of a secret: `[A-Za-z0-9._-]{1,64}`.
pub fn check_name(name: &str) -> Result<(), String> {
    let is_fine = (1..=NAME_LEN_MAX).contains(&name.len()) && name.bytes().all(is_name_byte);
    match is_fine {
        true => Ok(()),
        false => Err(format!(
            "must match [A-Za-z0-9._-]{{1,{NAME_LEN_MAX}}}, got {}",
            coretex_domain::names::shown(name)
        )),
    }
}

pub(crate) const fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_not_shown_and_has_bounds() {
        let secret = Secret::new("hunter2-hunter2".into()).unwrap();
        assert_eq!(format!("{secret:?} {:#?}", Some(&secret)), "Secret Some(\n    Secret,\n)");
        assert_eq!(secret.expose(), "hunter2-hunter2");
        assert!(Secret::new(String::new()).is_err());
        assert!(Secret::new("x".repeat(VALUE_LEN_MAX)).is_ok());
        let long = Secret::new("x".repeat(VALUE_LEN_MAX + 1)).unwrap_err();
        assert!(!long.contains("xx"), "{long}");
        assert!(Secret::new("secret://OTHER".into()).is_err_and(|why| !why.contains("OTHER")));
    }

    #[test]
    fn names_are_plain() {
        for bad in ["", "a b", "a/b", "é", "a:", &"a".repeat(65)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        for good in ["A", "db.password", "X_1-y", &"a".repeat(64)] {
            assert!(check_name(good).is_ok(), "{good:?}");
        }
    }
}
