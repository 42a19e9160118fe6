//! What all lists have in common: filter, page size, order and token.

use crate::call::Call;
use crate::tokens::Bound;
use coretex_contract::v1 as pb;
use coretex_domain::filter::{Filter, Schema};
use coretex_domain::limits::{PAGE_DEFAULT, PAGE_MAX};
use coretex_domain::names::shown;
use coretex_domain::{Reason, Refusal};

/// A filter over rows with these fields.
pub(crate) fn filter(schema: Schema, text: &str) -> Result<Filter, Refusal> {
    Filter::parse_for(schema, text).map_err(|fault| {
        Refusal::new(Reason::InvalidFilter, format!("filter: {fault}"))
            .fact("position", fault.position.to_string())
    })
}

/// 0 means the default; more than the most is taken as the most.
pub(crate) fn page_size(given: i32, default: usize) -> Result<usize, Refusal> {
    match usize::try_from(given) {
        Ok(0) => Ok(default),
        Ok(size) => Ok(size.min(PAGE_MAX)),
        Err(_) => Err(Refusal::field("page_size", format!("must be 0..={PAGE_MAX}, got {given}"))),
    }
}

/// One of the orders a list knows; the first is the default.
pub(crate) fn order<'a>(given: &str, known: &[&'a str]) -> Result<&'a str, Refusal> {
    let wanted: Vec<&str> = given.split_whitespace().collect();
    let found = match wanted.as_slice() {
        [] => known.first(),
        [field] => known.iter().find(|o| o.split(' ').next() == Some(*field) && o.ends_with(" asc")),
        [field, direction] => known.iter().find(|o| o.split_once(' ') == Some((*field, *direction))),
        _ => None,
    };
    found.copied().ok_or_else(|| {
        Refusal::field("order_by", format!("must be one of `{}`, got {}", known.join("`, `"), shown(given)))
    })
}

/// A view by number, or the method's own.
pub(crate) fn view(given: i32, default: pb::View) -> Result<pb::View, Refusal> {
    match pb::View::try_from(given) {
        Ok(pb::View::Unspecified) => Ok(default),
        Ok(view) => Ok(view),
        Err(_) => Err(Refusal::field("view", format!("must be REF, BASIC or FULL, got {given}"))),
    }
}

/// A short list of things with names, all in memory: filtered, ordered, one page of it.
pub(crate) struct Named<'a, T> {
    pub(crate) rows: Vec<(String, T)>,
    pub(crate) bound: Bound,
    pub(crate) tokens: &'a crate::tokens::Tokens,
    pub(crate) descending: bool,
    pub(crate) page_size: usize,
    pub(crate) page_token: &'a str,
}

impl<T> Named<'_, T> {
    /// The rows of the page and the token of the next one.
    pub(crate) fn page(mut self) -> Result<(Vec<T>, String), Refusal> {
        let after = self.tokens.open_name(&self.bound, self.page_token)?;
        self.rows.sort_by(|a, b| if self.descending { b.0.cmp(&a.0) } else { a.0.cmp(&b.0) });
        let is_after = |name: &str| match &after {
            None => true,
            Some(last) if self.descending => name < last.as_str(),
            Some(last) => name > last.as_str(),
        };
        let mut rows = self.rows.into_iter().filter(|(name, _)| is_after(name)).peekable();
        let mut page = Vec::with_capacity(self.page_size.min(64));
        let mut last = String::new();
        while page.len() < self.page_size
            && let Some((name, row)) = rows.next()
        {
            last = name;
            page.push(row);
        }
        let token = rows.peek().map(|_| self.tokens.seal_name(&self.bound, &last)).unwrap_or_default();
        Ok((page, token))
    }
}

/// What a token of this list is bound to.
pub(crate) fn bound(method: &str, call: &Call, filter: &Filter, order: &str) -> Bound {
    Bound::new(method, call.namespace.as_str(), filter.hash(), order)
}

pub(crate) const DEFAULT: usize = PAGE_DEFAULT;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::Tokens;

    #[test]
    fn orders_and_sizes_are_checked() {
        let known = ["create_time desc", "create_time asc"];
        assert_eq!(order("", &known), Ok("create_time desc"));
        assert_eq!(order("create_time", &known), Ok("create_time asc"));
        assert_eq!(order(" create_time  asc ", &known), Ok("create_time asc"));
        assert!(order("name asc", &known).is_err_and(|r| r.message.contains("create_time desc")));
        assert_eq!(page_size(0, 50), Ok(50));
        assert_eq!(page_size(5_000, 50), Ok(1_000));
        assert!(page_size(-1, 50).is_err());
        assert!(view(9, pb::View::Basic).is_err());
    }

    #[test]
    fn pages_cover_every_row_once() {
        let tokens = Tokens::new([1; 32]);
        for descending in [false, true] {
            let (mut seen, mut token) = (Vec::new(), String::new());
            loop {
                let rows = (0..7).map(|n| (format!("t{n}"), n)).collect();
                let named = Named {
                    rows,
                    bound: Bound::new("L", "ns", 0, ""),
                    tokens: &tokens,
                    descending,
                    page_size: 3,
                    page_token: &token,
                };
                let (page, next) = named.page().expect("a page");
                seen.extend(page);
                if next.is_empty() {
                    break;
                }
                token = next;
            }
            let mut wanted: Vec<i32> = (0..7).collect();
            if descending {
                wanted.reverse();
            }
            assert_eq!(seen, wanted);
        }
    }
}
