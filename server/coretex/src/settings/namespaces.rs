//! Section `namespaces`: whether they must be created before they are used.

use super::Profile;
use super::layers::Layers;

/// How namespaces come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Namespaces {
    pub must_be_declared: bool,
}

impl Namespaces {
    pub fn build(profile: Profile, layers: &mut Layers) -> Option<Namespaces> {
        let Some(mode) = layers.text("namespaces.mode") else {
            return Some(Namespaces { must_be_declared: profile == Profile::Production });
        };
        match mode.as_str() {
            "open" => Some(Namespaces { must_be_declared: false }),
            "declared" => Some(Namespaces { must_be_declared: true }),
            other => {
                layers.refuse_value("namespaces.mode", format!("`{other}` is not `open` or `declared`"));
                None
            }
        }
    }
}
