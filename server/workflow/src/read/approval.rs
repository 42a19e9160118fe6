//! A question to people.

use super::{Reader, template};
use crate::limits::*;
use crate::model::Approval;
use coretex_document::Spot;
use coretex_domain::Span;
use coretex_domain::policy::{ApprovalTerms, OnExpiry};

pub(crate) const APPROVAL_KEYS: &[&str] =
    &["title", "details", "approvers", "quorum", "expires", "on_expiry", "requester_may_approve"];
pub(crate) const ON_EXPIRY: &[(&str, OnExpiry)] =
    &[(OnExpiry::Reject.word(), OnExpiry::Reject), (OnExpiry::Approve.word(), OnExpiry::Approve)];

impl Reader {
    pub(super) fn approval(&mut self, spot: &Spot, path: &str) -> Option<Approval> {
        let fields = self.notes.map(spot, path, APPROVAL_KEYS)?;
        if !fields.has("title") {
            self.notes.at(spot, &fields.path("title"), "is missing; it says what people are asked");
        }
        let details = fields.spot("details").and_then(|spot| self.shape(spot, &fields.path("details")));
        let notes = &mut self.notes;
        let title = fields.spot("title").and_then(|spot| template(spot, &fields.path("title"), notes));
        let default = ApprovalTerms::default();
        let approvers =
            fields.texts("approvers", coretex_domain::limits::KEY_LEN_MAX, notes).unwrap_or_default();
        let quorum = fields.count("quorum", 1, QUORUM_MAX as u32, notes).unwrap_or(default.quorum);
        let terms = ApprovalTerms {
            approvers,
            quorum,
            expires: fields
                .span("expires", Span::secs(1), APPROVAL_EXPIRES_MAX, notes)
                .unwrap_or(default.expires),
            on_expiry: fields.word("on_expiry", ON_EXPIRY, notes).unwrap_or(default.on_expiry),
            requester_may_approve: fields.is_true("requester_may_approve", notes).unwrap_or(false),
        };
        Some(Approval { title: title?, details, terms })
    }
}
