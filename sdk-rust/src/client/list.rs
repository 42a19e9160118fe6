//! Pages and filters, the same for every list.

use crate::names::View;
use futures::Stream;
use std::future::Future;

/// What to list. Jobs, workers, topics and shards take the same shape; which fields a filter may name depends on what is listed.
///
/// ```
/// # use coretex_sdk::ListRequest;
/// let failed = ListRequest::filter(r#"state = FAILED AND topic = "job.mail""#).page_size(200);
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a request does nothing until it is sent"]
pub struct ListRequest {
    pub(crate) filter: String,
    pub(crate) page_size: i32,
    pub(crate) page_token: String,
    pub(crate) order_by: String,
    pub(crate) view: Option<View>,
}

/// A page of a list.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Token of the next page. Empty on the last one; a page may be short and still have one.
    pub next_page_token: String,
}

impl ListRequest {
    /// Everything.
    pub fn all() -> Self {
        Self::default()
    }

    /// What matches.
    pub fn filter(filter: impl Into<String>) -> Self {
        Self { filter: filter.into(), ..Self::default() }
    }

    /// Most items on a page, 1 to 1,000. Default 50.
    pub fn page_size(mut self, size: u16) -> Self {
        self.page_size = size.into();
        self
    }

    /// Continue after the page that had this token.
    pub fn page_token(mut self, token: impl Into<String>) -> Self {
        self.page_token = token.into();
        self
    }

    /// For example `create_time asc`.
    pub fn order_by(mut self, order: impl Into<String>) -> Self {
        self.order_by = order.into();
        self
    }

    /// How much of each item is returned.
    pub fn view(mut self, view: View) -> Self {
        self.view = Some(view);
        self
    }
}

impl From<&str> for ListRequest {
    fn from(filter: &str) -> Self {
        Self::filter(filter)
    }
}

impl From<String> for ListRequest {
    fn from(filter: String) -> Self {
        Self::filter(filter)
    }
}

/// All items of a list, page after page.
pub(crate) fn all_pages<T, E, F, Fut>(request: ListRequest, fetch: F) -> impl Stream<Item = Result<T, E>>
where
    F: Fn(ListRequest) -> Fut,
    Fut: Future<Output = Result<Page<T>, E>>,
{
    let start = (Vec::new().into_iter(), Some(request), fetch);
    futures::stream::try_unfold(start, |(mut ready, mut next, fetch)| async move {
        loop {
            if let Some(item) = ready.next() {
                return Ok(Some((item, (ready, next, fetch))));
            }
            let Some(request) = next.take() else { return Ok(None) };
            let page = fetch(request.clone()).await?;
            ready = page.items.into_iter();
            next = Some(request.page_token(page.next_page_token))
                .filter(|request| !request.page_token.is_empty());
        }
    })
}
