//! Values of secrets, which are not shown by accident.

use crate::ctx::Ctx;
use crate::error::{Error, Result};
use crate::raw::pb;
use crate::raw::pb::answer::Answer;
use crate::raw::pb::ask::Question;
use std::fmt;
use zeroize::Zeroizing;

/// The value of a secret. Shown only where [`expose`](Secret::expose) stands, and wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

// === impl Secret ===

impl Secret {
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

// === impl Ctx: secrets ===

impl Ctx {
    /// Names of the secrets the job refers to as `secret://NAME`: those it may ask for.
    pub fn secret_refs(&self) -> &[String] {
        &self.assignment().secret_refs
    }

    /// Asks for the value of a secret the job refers to: `NAME`, or `secret://NAME` as it stands in the payload. An error with the reason
    /// `SECRET_REFUSED` says that it is not told, and not why. A question that is sent again after a break is answered with what the value
    /// is then.
    pub async fn secret(&self, name: &str) -> Result<Secret> {
        let name = name.strip_prefix("secret://").unwrap_or(name);
        let ask = pb::SecretAsk { names: vec![name.to_owned()] };
        match self.ask("ask.secret", Question::Secret(ask)).await? {
            Answer::Secrets(told) => {
                let found = told.values.into_iter().find(|one| one.name == name);
                found
                    .map(|one| Secret(Zeroizing::new(one.value)))
                    .ok_or_else(|| Error::unexpected("another secret than was asked for"))
            }
            _ => Err(Error::unexpected("another answer than was asked for")),
        }
    }
}
