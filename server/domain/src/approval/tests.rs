use super::*;
use crate::filter::Filter;
use crate::job::{Entry, Spec};
use crate::payload::Payload;

fn asked() -> Approval {
    let mut job = Job::submitted(
        JobId::Named("order_7".into()),
        Namespace::new("default"),
        Arc::new(Spec::new("job.mail", Payload::empty())),
        1,
        Time(5),
        Some("ann".into()),
    );
    job.apply(Entry { seq: 2, time: Time(9), event: Event::ApprovalRequested }).expect("legal");
    Approval::of(&job)
}

#[test]
fn ids_name_round_and_job() {
    let id = asked().id();
    assert_eq!(id.to_string(), "apr_1_order_7");
    assert_eq!(ApprovalId::parse("apr_1_order_7"), Ok(id));
    for bad in [
        "",
        "apr_",
        "apr_1",
        "apr_0_x",
        "apr_01_x",
        "apr_-1_x",
        "apr_x_y",
        "apr_1_",
        "apr_99999999999_x",
        "job_1_x",
        "apr_1_a b",
    ] {
        assert!(ApprovalId::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn it_asks_about_the_job_as_it_stands() {
    let approval = asked();
    assert_eq!((&*approval.requester, approval.round, approval.create_time), ("ann", 1, Time(9)));
    assert_eq!(approval.expire_time, Time(9) + crate::limits::APPROVAL_EXPIRES_DEFAULT);
    assert!(!approval.has_quorum() && approval.is_pending());
}

#[test]
fn filters_see_whose_it_is() {
    let approval = asked();
    let meets = |text: &str, who: &str| {
        let filter = Filter::parse_for(APPROVAL_FIELDS, text).expect("a filter");
        filter.matches_row(&ApprovalRow { approval: &approval, voter: &Voter::named(who) })
    };
    assert!(meets("state = PENDING AND topic = \"job.mail\" AND job_id = \"order_7\"", "bob"));
    assert!(meets("mine = true", "bob") && !meets("mine = true", "ann"), "not what one asked for");
    assert!(Filter::parse_for(APPROVAL_FIELDS, "state = OPEN").is_err());
}
