//! Hostile texts and values end at a bound, whatever they are.

use super::{ALL, EACH, Job, World, evaluate, parse, purse, with_job};

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
            let mistake = parse(&text).expect_err(&text[..20]);
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
        assert_eq!(evaluate(&deepest, &Job::default()), Ok("true".into()));
    });
    judged.unwrap().join().expect("no text ends the thread");
}

#[test]
fn work_without_end_is_stopped_at_the_cost_limit() {
    let items = format!("[{}]", vec!["1"; 20_000].join(","));
    let facts = Job { payload: items.as_bytes(), content_type: "application/json", ..Job::default() };
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
        assert_eq!(told, format!("it costs more than {EACH} steps"), "{text}");
    }
    let expression = parse("job.payload.all(x, x == 1)").unwrap();
    let (world, purse) = (World::new(facts), purse());
    let last = (0..100).map(|_| expression.evaluate(&world, &purse).unwrap_err()).last().unwrap();
    assert!(last.to_string().contains("the expressions of this test cost more than 100000 steps together"));
    assert!(last.is_limit());
    assert!(purse.spent() <= ALL + 100 * 2, "{}", purse.spent());
}

proptest::proptest! {
    #[test]
    fn no_text_ends_the_parser(text in "\\PC{0,60}") {
        let _ = parse(&text);
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
