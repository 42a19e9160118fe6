//! The terms of a decision into bytes and back. Most decisions have none.

use crate::decode::{pairs_of, texts_of};
use crate::encode::{put_pairs, put_texts};
use crate::intern::Interner;
use crate::{Damaged, put, wire};
use coretex_domain::Span;
use coretex_domain::policy::{
    ApprovalTerms, Budgets, Constraints, DiffLimits, OnExpiry, Redaction, Remediation, Sandbox, Terms,
    Throttle, Toolchain,
};
use std::sync::Arc;

pub(crate) fn put_terms(buf: &mut Vec<u8>, tag: u32, terms: &Terms) {
    put::nested(buf, tag, |buf| {
        if let Some(approval) = &terms.approval {
            put::nested(buf, 1, |buf| put_approval(buf, approval));
        }
        if let Some(throttle) = &terms.throttle {
            put::nested(buf, 2, |buf| {
                put::uint(buf, 1, u64::from(throttle.limit));
                put::uint(buf, 2, throttle.per.0);
                put::text(buf, 3, &throttle.key);
            });
        }
        if let Some(constraints) = &terms.constraints {
            put::nested(buf, 3, |buf| put_constraints(buf, constraints));
        }
    });
}

pub(crate) fn put_approval(buf: &mut Vec<u8>, approval: &ApprovalTerms) {
    put_texts(buf, 1, &approval.approvers);
    put::uint(buf, 2, u64::from(approval.quorum));
    put::uint(buf, 3, approval.expires.0);
    put::uint(buf, 4, u64::from(approval.on_expiry == OnExpiry::Approve));
    put::flag(buf, 5, approval.requester_may_approve);
}

fn put_constraints(buf: &mut Vec<u8>, constraints: &Constraints) {
    let Constraints { budgets, sandbox, toolchain, diff, redaction } = constraints;
    put::opt_uint(buf, 1, budgets.max_runtime.map(|span| span.0));
    put::opt_uint(buf, 2, budgets.max_retries.map(u64::from));
    put::opt_uint(buf, 3, budgets.max_tokens);
    put::opt_uint(buf, 4, budgets.max_cost_micros);
    put::opt_uint(buf, 5, budgets.max_concurrent.map(u64::from));
    put::opt_uint(buf, 6, sandbox.isolated.map(u64::from));
    let lists = [
        (7, &sandbox.network_allowlist),
        (8, &sandbox.fs_read_only),
        (9, &sandbox.fs_read_write),
        (10, &toolchain.allowed_tools),
        (11, &toolchain.allowed_commands),
    ];
    for (tag, list) in lists {
        if let Some(list) = list {
            put::nested(buf, tag, |buf| put_texts(buf, 1, list));
        }
    }
    put::opt_uint(buf, 12, diff.max_files.map(u64::from));
    put::opt_uint(buf, 13, diff.max_lines.map(u64::from));
    put_texts(buf, 14, &diff.deny_path_globs);
    let redaction = redaction.map_or(0, |redaction| match redaction {
        Redaction::None => 1,
        Redaction::Standard => 2,
        Redaction::Strict => 3,
    });
    put::uint(buf, 15, redaction);
}

pub(crate) fn put_remediation(buf: &mut Vec<u8>, tag: u32, remediation: &Remediation) {
    put::nested(buf, tag, |buf| {
        put::text(buf, 1, &remediation.id);
        put::text(buf, 2, &remediation.title);
        put::opt_text(buf, 3, remediation.replacement_topic.as_deref());
        put::opt_text(buf, 4, remediation.summary.as_deref());
        put::opt_text(buf, 5, remediation.replacement_capability.as_deref());
        put_pairs(buf, 6, &remediation.add_labels);
        put_texts(buf, 7, &remediation.remove_labels);
    });
}

pub(crate) fn remediation_of(remediation: &wire::Remediation, interner: &mut Interner) -> Remediation {
    Remediation {
        id: interner.text(&remediation.id),
        title: interner.text(&remediation.title),
        summary: interner.opt_text(remediation.summary.as_deref()),
        replacement_topic: interner.opt_text(remediation.replacement_topic.as_deref()),
        replacement_capability: interner.opt_text(remediation.replacement_capability.as_deref()),
        add_labels: pairs_of(&remediation.add_labels, interner),
        remove_labels: texts_of(&remediation.remove_labels, interner),
    }
}

pub(crate) fn terms_of(terms: &wire::Terms, interner: &mut Interner) -> Result<Arc<Terms>, Damaged> {
    let approval = terms.approval.as_ref().map(|approval| approval_of(approval, interner)).transpose()?;
    let throttle = terms.throttle.as_ref().map(|throttle| Throttle {
        limit: throttle.limit,
        per: Span(throttle.per),
        key: interner.text(&throttle.key),
    });
    let constraints = terms.constraints.as_ref().map(|all| constraints_of(all, interner)).transpose()?;
    Ok(Arc::new(Terms { approval, throttle, constraints }))
}

pub(crate) fn approval_of(
    approval: &wire::Approval,
    interner: &mut Interner,
) -> Result<ApprovalTerms, Damaged> {
    Ok(ApprovalTerms {
        approvers: texts_of(&approval.approvers, interner),
        quorum: approval.quorum,
        expires: Span(approval.expires),
        on_expiry: match approval.on_expiry {
            0 => OnExpiry::Reject,
            1 => OnExpiry::Approve,
            unknown => return Err(Damaged(format!("approval with an unknown end {unknown}"))),
        },
        requester_may_approve: approval.requester_may_approve,
    })
}

fn constraints_of(all: &wire::Constraints, interner: &mut Interner) -> Result<Constraints, Damaged> {
    let mut texts = |list: &Option<wire::Texts>| list.as_ref().map(|list| texts_of(&list.all, interner));
    Ok(Constraints {
        budgets: Budgets {
            max_runtime: all.max_runtime.map(Span),
            max_retries: all.max_retries,
            max_tokens: all.max_tokens,
            max_cost_micros: all.max_cost_micros,
            max_concurrent: all.max_concurrent,
        },
        sandbox: Sandbox {
            isolated: all.isolated,
            network_allowlist: texts(&all.network_allowlist),
            fs_read_only: texts(&all.fs_read_only),
            fs_read_write: texts(&all.fs_read_write),
        },
        toolchain: Toolchain {
            allowed_tools: texts(&all.allowed_tools),
            allowed_commands: texts(&all.allowed_commands),
        },
        diff: DiffLimits {
            max_files: all.max_files,
            max_lines: all.max_lines,
            deny_path_globs: texts_of(&all.deny_path_globs, interner),
        },
        redaction: match all.redaction {
            0 => None,
            1 => Some(Redaction::None),
            2 => Some(Redaction::Standard),
            3 => Some(Redaction::Strict),
            unknown => return Err(Damaged(format!("constraints with unknown redaction {unknown}"))),
        },
    })
}
