use super::*;
use crate::Facts;
use crate::limits::{EXPRESSION_COST_MAX, JUDGEMENT_COST_MAX};
use std::sync::Arc;

fn evaluate(text: &str, facts: &Facts<'_>) -> Result<String, String> {
    let expression =
        Expression::parse(text).map_err(|mistake| format!("{}: {}", mistake.at, mistake.message))?;
    let inputs = Inputs::new(*facts);
    let value = expression.evaluate(&inputs).0.map_err(|fault| fault.to_string())?;
    Ok(match &value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Double(value) => format!("{value:?}"),
        other => other.text().map_or_else(|| other.kind().into(), |text| format!("{text:?}")),
    })
}

fn with_job<T>(judge: impl FnOnce(&Facts<'_>) -> T) -> T {
    let labels: [(Arc<str>, Arc<str>); 2] = [("env".into(), "prod".into()), ("a.b".into(), "c".into())];
    let tags: [Arc<str>; 2] = ["prod".into(), "write".into()];
    let config = serde_json::json!({"model": "small", "limits": {"tokens": 5}});
    let payload = br#"{"items": [1, 2.5, "x", null], "user": {"name": "Ann", "admin": false}, "n": 3}"#;
    judge(&Facts {
        namespace: "acme",
        topic: "job.mail",
        actor: "ann",
        risk_tags: &tags,
        labels: &labels,
        priority: 4,
        payload,
        content_type: "application/json",
        config: Some(&config),
        ..Facts::default()
    })
}

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
        let plain = Facts { content_type: "text/plain", ..*facts };
        assert!(evaluate("job.payload.n", &plain).is_err_and(|told| told.contains("not declared as JSON")));
        assert_eq!(evaluate("size(job.payload)", &plain), Ok("79".into()));
        let broken = Facts { payload: b"{", ..*facts };
        assert!(evaluate("job.payload.n", &broken).is_err_and(|told| told.contains("is not JSON")));
        let huge = vec![b' '; 65_537];
        let large = Facts { payload: &huge, ..*facts };
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
        let mistake = Expression::parse(text).expect_err(text);
        assert!(mistake.message.contains(part), "{text}: {}", mistake.message);
        assert_eq!(mistake.at, at, "{text}: {}", mistake.message);
    }
}

/// The two ways to end a process: a stack without end, and work without end.
#[test]
fn hostile_texts_end_with_a_limit_and_within_a_small_stack() {
    let deep = |open: &str, inner: &str, close: &str| {
        [100, 10_000].map(|n| format!("{}{inner}{}", open.repeat(n), close.repeat(n)))
    };
    let mut texts: Vec<String> = Vec::new();
    texts.extend(deep("(", "1", ")"));
    texts.extend(deep("[", "1", "]"));
    texts.extend(deep("{1:", "1", "}"));
    texts.extend(deep("!", "true", ""));
    texts.extend(deep("-", "1", ""));
    texts.extend(deep("true ? true : ", "true", ""));
    texts.extend(deep("size(", "''", ")"));
    texts.extend(deep("", "config", ".a"));
    texts.extend(deep("", "1", " + 1"));
    texts.extend(deep("[1].all(x, ", "true", ")"));
    texts.push("a".repeat(70_000));
    texts.push("[1,".repeat(10) + &"1,".repeat(11_000) + "1]" + &"]".repeat(10));
    let judged = std::thread::Builder::new().stack_size(512 << 10).spawn(move || {
        for text in texts {
            let mistake = Expression::parse(&text).expect_err(&text[..20]);
            assert!(
                ["deeper than 32", "more than 10000 parts", "at most 65536"]
                    .iter()
                    .any(|part| mistake.message.contains(part)),
                "{}: {}",
                &text[..20],
                mistake.message
            );
        }
        // The deepest that is taken must also be evaluated within this stack.
        let deepest = format!("{}true{}", "[true].all(x, ".repeat(30), ")".repeat(30));
        assert_eq!(evaluate(&deepest, &Facts::default()), Ok("true".into()));
    });
    judged.unwrap().join().expect("no text ends the thread");
}

#[test]
fn work_without_end_is_stopped_at_the_cost_limit() {
    let items = format!("[{}]", vec!["1"; 20_000].join(","));
    let facts = Facts { payload: items.as_bytes(), content_type: "application/json", ..Facts::default() };
    let doubled =
        format!("{}'{}'{}", "[", "x".repeat(1_000), "]") + &".map(s, s + s + s + s)".repeat(20) + " == []";
    for text in [
        "job.payload.exists(a, job.payload.exists(b, a != b))",
        "job.payload.all(x, x == 1)",
        "job.payload == job.payload && job.payload.map(x, x) == []",
        "2 in job.payload",
        "false || job.payload.all(x, true) || true",
        doubled.as_str(),
    ] {
        let told = evaluate(text, &facts).expect_err(text);
        assert_eq!(told, format!("it costs more than {EXPRESSION_COST_MAX} steps"), "{text}");
    }
    let expression = Expression::parse("job.payload.all(x, x == 1)").unwrap();
    let inputs = Inputs::new(facts);
    let spent: u32 = (0..100).map(|_| expression.evaluate(&inputs).1).sum();
    assert!(spent <= JUDGEMENT_COST_MAX + 100 * 2, "{spent}");
    let last = expression.evaluate(&inputs).0.unwrap_err().to_string();
    assert!(last.contains("together"), "{last}");
}

proptest::proptest! {
    #[test]
    fn no_text_ends_the_parser(text in "\\PC{0,60}") {
        let _ = Expression::parse(&text);
    }

    #[test]
    fn no_expression_ends_the_evaluator(
        words in proptest::collection::vec(proptest::sample::select(vec![
            "job.payload", "job.labels", "config", "1", "2.5", "'a'", "true", "null", "[1, 'b']", "{'k': 1}", ".n", "[0]",
            " + ", " - ", " * ", " / ", " % ", " == ", " < ", " in ", " && ", " || ", "!", "-", "(", ")", ".size()",
            ".exists(x, x == 1)", ".map(x, [x])", " ? ", " : ", "has(", "size(", "string(", ".contains('a')", ".user",
        ]), 0..12)
    ) {
        let text = words.concat();
        with_job(|facts| { let _ = evaluate(&text, facts); });
    }
}
