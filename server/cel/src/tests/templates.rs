//! Texts with expressions in them, and conditions.

use super::{SCOPE, World, purse, shown, with_job};
use crate::{Condition, Kind, Kinds, Template, Writes};

fn value(text: &str, writes: Writes) -> Result<String, String> {
    let template =
        Template::parse(text, &SCOPE, writes).map_err(|wrong| format!("{}: {}", wrong.at, wrong.message))?;
    with_job(|job| {
        let world = World::new(*job);
        template.value(&world, &purse()).map(|value| shown(&value)).map_err(|fault| fault.to_string())
    })
}

#[test]
fn one_expression_keeps_its_kind_and_text_around_it_makes_a_text() {
    let cases = [
        ("", "\"\""),
        ("plain", "\"plain\""),
        ("${job.payload.n}", "3"),
        ("${job.payload.items}", "a list"),
        ("${job.payload}", "a map"),
        (" ${job.payload.n}", "\" 3\""),
        ("${1}${2.5}", "\"12.5\""),
        ("n=${job.payload.n} ${true} ${job.topic}", "\"n=3 true job.mail\""),
        ("${job.payload.items} and ${null}", "\"[1,2.5,\\\"x\\\",null] and null\""),
        ("${job.labels}!", "\"{\\\"a.b\\\":\\\"c\\\",\\\"env\\\":\\\"prod\\\"}!\""),
        ("$${job.topic}", "\"${job.topic}\""),
        ("$$${job.topic}", "\"$${job.topic}\""),
        ("$5 and ${'$'}${job.payload.n}", "\"$5 and $3\""),
        ("a$${b} ${'}' + r'\\' + \"${x}\"}", "\"a${b} }\\\\${x}\""),
        ("${{'a': {'b': 1}}.a.b} ${'''it's }'''}", "\"1 it's }\""),
        ("${1 // } a comment\n}.", "\"1.\""),
    ];
    for (text, expected) in cases {
        assert_eq!(value(text, Writes::Documents), Ok(expected.into()), "{text}");
    }
}

#[test]
fn keys_have_no_escape_and_no_lists() {
    assert_eq!(value("$${job.topic}", Writes::Keys), Ok("\"$job.mail\"".into()));
    assert_eq!(
        value("a${job.payload.items}", Writes::Keys),
        Err("it gives a list, not a text or a number".into())
    );
    let refused = [("a${[1]}", 3, "a list"), ("${null}", 2, "null"), ("${job.labels}", 2, "a map")];
    for (text, at, told) in refused {
        let expected = format!("{at}: a key is made of texts and numbers; this gives {told}");
        assert_eq!(value(text, Writes::Keys), Err(expected), "{text}");
    }
}

#[test]
fn mistakes_are_told_at_their_byte_in_the_text() {
    let cases = [
        ("é ${job.lables}", "9: `job` has no field `lables`"),
        ("a ${", "2: this `${` is not closed"),
        ("a ${job.topic", "2: this `${` is not closed"),
        ("a ${{1: 2}", "2: this `${` is not closed"),
        ("a ${'x}", "4: a text is not closed"),
        ("a ${}", "4: the expression is empty"),
        ("${1 +}", "5: a value is expected"),
        ("${1} ${2 3}", "9: `3` is not expected"),
    ];
    for (text, expected) in cases {
        let told = value(text, Writes::Documents).expect_err(text);
        assert!(told.starts_with(expected), "{text}: {told}");
    }
    let many = "${1}".repeat(1_001);
    assert!(
        value(&many, Writes::Documents)
            .is_err_and(|told| told.starts_with("4000: the text has more than 1000"))
    );
    let long = "x".repeat((1 << 20) + 1);
    assert!(value(&long, Writes::Documents).is_err_and(|told| told.contains("at most 1048576")));
    let inner = format!("${{'{}'}}", "x".repeat(70_000));
    assert!(value(&inner, Writes::Documents).is_err_and(|told| told.contains("more than 65536 bytes")));
}

#[test]
fn reads_and_checks_of_a_template_are_placed_in_its_text() {
    let template = Template::parse("é ${job.topic} ${config.a}", &SCOPE, Writes::Documents).unwrap();
    let reads: Vec<_> = template.reads().into_iter().map(|read| (read.to_string(), read.at)).collect();
    assert_eq!(reads, [("job.topic".to_owned(), 5), ("config.a".to_owned(), 18)]);
    let known = |_: u16, _: &[crate::Key]| Kinds::ANY;
    assert_eq!(template.check(&known), Ok(Kinds::TEXT));
    assert_eq!(template.constant(), None);
    let constant = Template::parse("a $${b}", &SCOPE, Writes::Documents).unwrap();
    assert_eq!((constant.constant(), constant.as_str()), (Some("a ${b}"), "a $${b}"));
    assert!(constant.expression().is_none() && constant.reads().is_empty());
    let sole = Template::parse("${1 + 2}", &SCOPE, Writes::Documents).unwrap();
    assert_eq!(sole.check(&known).map(Kinds::one), Ok(Some(Kind::Int)));
    let wrong =
        Template::parse("a ${size(3)}", &SCOPE, Writes::Documents).unwrap().check(&known).unwrap_err();
    assert_eq!((wrong.at, &*wrong.message), (9, "`size` wants a text, a list or a map, not a whole number"));
}

/// What values say is never read again.
#[test]
fn a_value_that_looks_like_a_template_is_text() {
    let text = "${'$' + '{job.topic}'} ${\"$${x}\"}";
    assert_eq!(value(text, Writes::Documents), Ok("\"${job.topic} $${x}\"".into()));
}

#[test]
fn what_is_written_is_paid_for() {
    let text = format!("{}.", "${job.payload}".repeat(200));
    let template = Template::parse(&text, &SCOPE, Writes::Documents).unwrap();
    let payload = format!("\"{}\"", "x".repeat(60_000));
    let job =
        super::Job { payload: payload.as_bytes(), content_type: "application/json", ..Default::default() };
    let (world, purse) = (World::new(job), purse());
    let told = template.fill(&world, &purse).unwrap_err();
    assert!(told.is_limit() && told.to_string().contains("together"), "{told}");
}

#[test]
fn a_condition_is_true_or_false() {
    let holds = |text: &str| {
        let condition =
            Condition::parse(text, &SCOPE).map_err(|wrong| format!("{}: {}", wrong.at, wrong.message))?;
        with_job(|job| condition.holds(&World::new(*job), &purse()).map_err(|fault| fault.to_string()))
    };
    assert_eq!(holds(" ${ job.payload.n == 3 } "), Ok(true));
    assert_eq!(holds("job.topic == 'x'"), Ok(false));
    assert_eq!(holds("job.payload.n"), Err("it gives a whole number, not true or false".into()));
    assert_eq!(holds("'a'"), Err("0: a condition gives true or false; this gives a text".into()));
    assert_eq!(holds("${true"), Err("6: the `${` is not closed at the end".into()));
    let condition = Condition::parse(" ${config.a}", &SCOPE).unwrap();
    assert_eq!(condition.reads()[0].at, 3);
    let text = |_: u16, path: &[crate::Key]| if path.is_empty() { Kinds::MAP } else { Kinds::TEXT };
    let wrong = condition.check(&text).unwrap_err();
    assert_eq!((wrong.at, &*wrong.message), (3, "a condition gives true or false; this gives a text"));
    let unclear = |_: u16, _: &[crate::Key]| Kinds::ANY;
    assert_eq!(condition.check(&unclear), Ok(()));
}
