//! The configuration of a job: its digest and its layers. The data follows from these.

use crate::intern::Interner;
use crate::{put, wire};
use coretex_domain::config::{Applied, Layer, Level, Scope};

pub(crate) fn put_applied(buf: &mut Vec<u8>, tag: u32, applied: &Applied) {
    put::nested(buf, tag, |buf| {
        put::bytes(buf, 1, &applied.digest);
        for layer in &applied.layers {
            put::nested(buf, 2, |buf| {
                put::uint(buf, 1, u64::from(layer.scope.level as u8));
                put::text(buf, 2, &layer.scope.id);
                put::uint(buf, 3, layer.revision);
            });
        }
    });
}

/// None for what a later release has written in another way: the job is as good without it.
pub(crate) fn applied_of(applied: &wire::Applied, interner: &mut Interner) -> Option<Applied> {
    let mut layer = |one: &wire::Layer| {
        let scope = Scope { level: Level::from_number(one.level)?, id: interner.text(&one.id) };
        Some(Layer { scope, revision: one.revision })
    };
    Some(Applied {
        digest: applied.digest.as_ref().try_into().ok()?,
        layers: applied.layers.iter().map(&mut layer).collect::<Option<_>>()?,
        data: None,
    })
}
