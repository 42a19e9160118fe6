//! What the language says, and what it refuses.

use super::{Job, evaluate, parse, with_job};

#[test]
fn expressions_give_what_the_language_says() {
    let cases = [
        ("job.labels.env == 'prod' && size(job.payload) < 65536", "true"),
        ("size(job.payload)", "79"),
        ("job.size == size(job.payload)", "true"),
        ("size(job.payload.items)", "4"),
        ("job.payload.items[1] == 2.5 && job.payload.n == 3.0", "true"),
        ("job.payload.user.name.startsWith('A') || job.payload.nothing", "true"),
        ("has(job.payload.user.name) && !has(job.payload.user.mail)", "true"),
        ("'write' in job.risk_tags && 'env' in job.labels && !('x' in job.labels)", "true"),
        ("job.labels['a.b']", "\"c\""),
        ("config.limits.tokens * 2 - 1", "9"),
        ("1 + 2 * 3 % 2 == 1 ? 'yes' : 'no'", "\"yes\""),
        ("-2 - -3", "1"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("0x10 + 1", "17"),
        ("1.5e1 / 2.0", "7.5"),
        ("9007199254740993 == 9007199254740992.0", "false"),
        ("1 < 1.5 && 2 >= 2.0 && -1 > -1.5", "true"),
        ("[1, 2, 3].exists(x, x > 2) && [1, 2].all(x, x > 0) && [1, 2, 2].exists_one(x, x == 1)", "true"),
        ("[1, 2, 3].filter(x, x != 2).map(x, x * 10) == [10, 30]", "true"),
        ("[1, 2, 3].map(x, x > 1, x * 10) == [20, 30]", "true"),
        ("job.labels.exists(key, job.labels[key] == 'prod')", "true"),
        ("[[1, 2], [3]].all(x, x.exists(y, y > x[0] - 1))", "true"),
        ("{'a': 1, 'b': [2]} == {'b': [2.0], 'a': 1}", "true"),
        ("[0, 1].exists(x, 1 / x == 1)", "true"),
        ("false && 1 / 0 == 0 || true", "true"),
        ("1 / 0 == 0 || true", "true"),
        ("'ab' + \"c\" + r'\\n' + '\\u00e9' == 'abc\\\\né'", "true"),
        ("'''it's''' .matches(\"^it.s$\") && 'É'.size() == 1", "true"),
        ("int('7') + int(2.9) + int(string(1))", "10"),
        ("'AbC'.lowerAscii() + 'x'.upperAscii()", "\"abcX\""),
        ("null == job.payload.items[3] // a comment", "true"),
        ("'1' == 1", "false"),
    ];
    with_job(|facts| {
        for (text, expected) in cases {
            assert_eq!(evaluate(text, facts), Ok(expected.into()), "{text}");
        }
    });
}

#[test]
fn what_is_not_defined_is_a_fault_that_says_so() {
    let cases = [
        ("job.payload.nothing", "no field `nothing`"),
        ("job.labels.region == 'eu'", "no field `region`"),
        ("job.payload.items[4]", "no item 4 in a list of 4"),
        ("job.payload.items[-1]", "no item -1"),
        ("1 / 0", "divided by zero"),
        ("-9223372036854775808 / -1", "outside"),
        ("9223372036854775807 + 1", "outside"),
        ("1 + 1.0", "do not go together"),
        ("'a' < 1", "no order"),
        ("job.payload.user && true", "wants true or false, not a map"),
        ("size(1)", "`size` wants"),
        ("int('x')", "no whole number"),
        ("int(1e300)", "`int` wants"),
        ("{'a': 1, 'a': 2}", "key twice"),
        ("[1, 0].all(x, 1 / x == 1)", "divided by zero"),
    ];
    with_job(|facts| {
        for (text, part) in cases {
            let told = evaluate(text, facts).expect_err(text);
            assert!(told.contains(part), "{text}: {told}");
        }
        let plain = Job { content_type: "text/plain", ..*facts };
        assert!(evaluate("job.payload.n", &plain).is_err_and(|told| told.contains("not declared as JSON")));
        assert_eq!(evaluate("size(job.payload)", &plain), Ok("79".into()));
        let broken = Job { payload: b"{", ..*facts };
        assert!(evaluate("job.payload.n", &broken).is_err_and(|told| told.contains("is not JSON")));
        let huge = vec![b' '; 65_537];
        let large = Job { payload: &huge, ..*facts };
        assert!(
            evaluate("job.payload.n", &large).is_err_and(|told| told.contains("65537 bytes, at most 65536"))
        );
    });
}

#[test]
fn texts_that_are_no_expression_are_refused_with_their_place() {
    let cases = [
        ("", 0, "empty"),
        ("1 +", 3, "a value is expected, not the end"),
        ("1 2", 2, "`2` is not expected"),
        ("(1", 2, "`)` is expected"),
        ("job", 0, "read by its fields"),
        ("job.lables.x == 'y'", 4, "did you mean `labels`"),
        ("jop.topic", 0, "did you mean `job`"),
        ("siz(job.payload)", 0, "did you mean `size`"),
        ("job.topic.startswith('a')", 10, "did you mean `startsWith`"),
        ("size(1, 2)", 9, "takes 1 arguments here, not 2"),
        ("'abc", 0, "not closed"),
        ("'a\\q'", 2, "no escape"),
        ("9223372036854775808", 0, "64 bits"),
        ("99999999999999999999", 0, "64 bits"),
        ("1u", 0, "unsigned"),
        ("b'x'", 0, "byte literals"),
        ("12abc", 0, "runs into"),
        ("1e999", 0, "too large"),
        ("a # b", 2, "no part of an expression"),
        ("'x'.matches('(')", 12, "the pattern is refused"),
        ("'x'.matches(job.topic)", 12, "as a text in quotes"),
        ("'x'.matches('(a{1000}){1000}')", 12, "the pattern is refused"),
        ("[1].all(job, true)", 8, "is taken"),
        ("[1].all(x, true, true)", 21, "one expression"),
        ("has(job)", 4, "read by its fields"),
        ("has(1)", 5, "`has` takes a field"),
        ("x", 0, "there is no `x`"),
    ];
    for (text, at, part) in cases {
        let mistake = parse(text).expect_err(text);
        assert!(mistake.message.contains(part), "{text}: {}", mistake.message);
        assert_eq!(mistake.at, at, "{text}: {}", mistake.message);
    }
}

/// Every step moves values: they stay as small as a shared list and a tag.
#[test]
fn a_value_is_small() {
    assert_eq!(size_of::<crate::Value<'_>>(), 24);
}
