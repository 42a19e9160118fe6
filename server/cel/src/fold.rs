//! Macros: one expression evaluated for each item of a list, or for each key of a map.

use crate::eval::Walk;
use crate::fault::{Fault, wanted};
use crate::items::Items;
use crate::node::Fold;
use crate::operator::FoldKind;
use crate::value::Value;

impl<'a> Walk<'a, '_, '_> {
    pub(crate) fn fold(&mut self, fold: &'a Fold) -> Result<Value<'a>, Fault> {
        let over = self.value(&fold.over)?.opened()?;
        let Some(items) = Items::of(&over) else { return Err(wanted("a macro", "a list or a map", &over)) };
        // Names of an outer branch that ended in an error may be left over.
        self.names.truncate(fold.name);
        let (mut kept, mut met, mut failed) = (Vec::new(), 0, None);
        for item in items {
            self.names.truncate(fold.name);
            self.names.push(item.clone());
            let holds = match &fold.claim {
                None => Ok(true),
                Some(claim) => self.claim(claim),
            };
            match (fold.kind, holds) {
                (FoldKind::All, Ok(false)) => return Ok(Value::Bool(false)),
                (FoldKind::Exists, Ok(true)) => return Ok(Value::Bool(true)),
                (FoldKind::All | FoldKind::Exists, Err(fault)) if !fault.is_limit() => {
                    failed = failed.or(Some(fault))
                }
                (_, Err(fault)) => return Err(fault),
                (FoldKind::Map, Ok(true)) => {
                    self.names.truncate(fold.name + 1);
                    if let Some(made) = &fold.made {
                        kept.push(self.value(made)?);
                    }
                }
                (FoldKind::Filter, Ok(true)) => kept.push(item),
                (FoldKind::ExistsOne, Ok(true)) => met += 1,
                (_, Ok(_)) => {}
            }
        }
        if let Some(fault) = failed {
            return Err(fault);
        }
        Ok(match fold.kind {
            FoldKind::All => Value::Bool(true),
            FoldKind::Exists => Value::Bool(false),
            FoldKind::ExistsOne => Value::Bool(met == 1),
            FoldKind::Filter | FoldKind::Map => Value::list(kept)?,
        })
    }
}
