//! Resources by key and in order: the overlay over the index.

use crate::index::read::Reader;
use crate::overlay::Overlay;
use coretex_domain::resource::{Kind, Resource, ResourceKey};
use coretex_domain::{Namespace, Time};
use coretex_ports::{Page, Row, StoreError};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// (create time, name): the order of a walk.
type Place = (Time, Arc<str>);

/// What to walk; see `Scan::Resources`.
pub(crate) struct Walk {
    pub(crate) kind: Kind,
    pub(crate) namespace: Namespace,
    pub(crate) descending: bool,
    pub(crate) after: Option<Place>,
    pub(crate) limit: usize,
}

fn place(one: &Resource) -> Place {
    (one.create_time, one.name.clone())
}

// === impl Walk ===

impl Walk {
    pub(crate) fn run(&self, overlay: &Overlay, reader: &mut Reader) -> Result<Page, StoreError> {
        let newer = self.overlaid(overlay);
        // As many rows more as the overlay may take out of what the index says.
        let wanted = self.limit.saturating_add(1).saturating_add(newer.len());
        let after = self.after.as_ref();
        let rows = reader.resources(self.kind, &self.namespace, self.descending, after, wanted)?;
        let mut found: BTreeMap<Place, Arc<Resource>> = BTreeMap::new();
        for one in rows {
            if !newer.contains_key(&one.name) {
                found.insert(place(&one), Arc::new(one));
            }
        }
        for one in newer.into_values().flatten().filter(|one| self.is_ahead(one)) {
            found.insert(place(&one), one);
        }
        let more = found.len() > self.limit;
        let rows: Vec<Row> = if self.descending {
            found.into_values().rev().take(self.limit).map(Row::Resource).collect()
        } else {
            found.into_values().take(self.limit).map(Row::Resource).collect()
        };
        Ok(Page { rows, more })
    }

    fn is_ahead(&self, one: &Resource) -> bool {
        match &self.after {
            None => true,
            Some(mark) if self.descending => place(one) < *mark,
            Some(mark) => place(one) > *mark,
        }
    }

    /// What the overlay says of this kind and namespace, by name; None where it says that there is none.
    fn overlaid(&self, overlay: &Overlay) -> FxHashMap<Arc<str>, Option<Arc<Resource>>> {
        let mut newer = FxHashMap::default();
        overlay.visit_side(|side| {
            let ours = side
                .resources
                .iter()
                .filter(|(key, _)| key.kind == self.kind && key.namespace == self.namespace);
            newer.extend(ours.map(|(key, one)| (key.name.clone(), one.clone())));
        });
        newer
    }
}

/// These resources, as far as they exist.
pub(crate) fn named(
    overlay: &Overlay,
    reader: &mut Reader,
    keys: &[ResourceKey],
) -> Result<Page, StoreError> {
    let mut rows = Vec::new();
    for key in keys {
        let found = match overlay.side(|side| side.resources.get(key).cloned()) {
            Some(newer) => newer,
            None => reader.resource(key)?.map(Arc::new),
        };
        rows.extend(found.map(Row::Resource));
    }
    Ok(Page { rows, more: false })
}
