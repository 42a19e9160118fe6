//! Values that jobs ask for by name, and the redactor that keeps them out of everything else.
//!
//! A [`Vault`] has the values of one server. All of them are also known to the one redactor of the process, before anybody can be
//! given one: [`text`], [`payload`] and their like take them out of what is stored, said or logged. Without values each costs one
//! relaxed load.

mod forms;
mod known;
mod redactor;
pub mod refs;
mod secret;
mod stream;
mod vault;
mod views;

pub use coretex_domain::redact::REDACTED;
pub use forms::REDACTED_LEN_MIN;
pub use known::{arc, is_on, payload, redactor, register, text};
pub use redactor::Redactor;
pub use secret::{NAME_LEN_MAX, Secret, VALUE_LEN_MAX, check_name};
pub use stream::{Passed, Stream};
pub use vault::{ANY_NAMESPACE, Values, Vault};
