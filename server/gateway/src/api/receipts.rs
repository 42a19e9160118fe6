//! Receipts of a job's questions: pages of what was asked and told.

use super::jobs::Jobs;
use super::list::{self, page_size};
use crate::call::Call;
use crate::gate::job_id;
use crate::tokens::Bound;
use crate::wire::job::PAGE_BYTES_AIM;
use crate::wire::receipt;
use coretex_contract::v1 as pb;
use coretex_domain::Refusal;
use coretex_engine::ReceiptQuery;
use prost::Message;

impl Jobs {
    pub(super) async fn receipts(
        &self,
        call: &Call,
        request: pb::ListAskReceiptsRequest,
    ) -> Result<pb::ListAskReceiptsResponse, Refusal> {
        let id = job_id("job_id", &request.job_id)?;
        let page_size = page_size(request.page_size, list::DEFAULT)?;
        let bound = Bound::new("ListAskReceipts", call.namespace.as_str(), 0, &request.job_id);
        let after = self.0.tokens.open_row(&bound, &request.page_token)?;
        let query = ReceiptQuery { namespace: call.namespace.clone(), job_id: id, after, page_size };
        let page = self.0.engine.list_receipts(query).await?;
        let (mut receipts, mut bytes, mut next) = (Vec::new(), 0, page.next);
        let mut last = None;
        for (name, time, one) in page.receipts {
            let written = receipt::write(&name, time, &one);
            bytes += written.encoded_len() + 8;
            if bytes > PAGE_BYTES_AIM && !receipts.is_empty() {
                next = last;
                break;
            }
            receipts.push(written);
            last = Some((time, name));
        }
        let next_page_token = next.map(|key| self.0.tokens.seal_row(&bound, &key)).unwrap_or_default();
        Ok(pb::ListAskReceiptsResponse { receipts, next_page_token })
    }
}
