//! The clock of the machine: certificates, tokens and expiries are believed by it.

use super::Profile;
use super::layers::Layers;
use super::refusal::Refusal;
use std::time::{Duration, UNIX_EPOCH};

/// When this binary was built, in seconds since 1970, as text.
const BUILT: &str = env!("BUILT_AT_SECONDS");

/// A clock that says it is before the build is wrong, and everything that ends would seem to go on.
pub(super) fn validate(profile: Profile, layers: &mut Layers) {
    let built = UNIX_EPOCH + Duration::from_secs(BUILT.parse().unwrap_or_default());
    if profile == Profile::Production && layers.now < built {
        let message = "the clock of this machine is before the date this binary was built";
        layers.refuse(Refusal::new("R14", message, "set the clock, for example by NTP"));
    }
}
