//! One text for one bundle, whatever its author's spacing, comments and order of keys; and its hash, the version.

use crate::bundle::Bundle;

impl Bundle {
    /// The bundle as one line of JSON, which the reader of bundles takes too: `parse(canonical(b)) == b`. Defaults of
    /// an approval are written out, so that a later default does not change what an old version means.
    pub fn canonical(&self) -> String {
        serde_json::to_string(self).expect("a bundle is texts, numbers, lists and maps with text keys")
    }

    /// 64 hexadecimal digits of BLAKE3 over the canonical text.
    pub fn version(&self) -> String {
        blake3::hash(self.canonical().as_bytes()).to_hex().to_string()
    }
}
