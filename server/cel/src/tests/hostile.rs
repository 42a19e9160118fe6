//! Sixty programs that try to run for ever, to fill memory or to end the stack. Each ends, and within its purse.

use super::{ALL, EACH, Job, World, parse, purse};
use crate::Purse;
use std::time::{Duration, Instant};

/// Far more than any of them takes, and far less than for ever.
const PATIENCE: Duration = Duration::from_secs(5);

/// Much work with what a payload has.
fn greedy() -> Vec<String> {
    let (rows, big) = ("job.payload.rows", "job.payload.big");
    [
        format!("{rows}.all(a, {rows}.all(b, {rows}.all(c, a + b + c >= 0)))"),
        format!("{rows}.exists(a, {rows}.exists(b, a != a))"),
        format!("{rows}.map(a, {rows}.map(b, {rows}))"),
        format!("{rows}.map(a, {rows}.filter(b, true)) == []"),
        format!("{rows}.exists_one(a, a in {rows})"),
        format!("{rows}.filter(a, {rows}.exists(b, b == -1))"),
        format!("{rows}.map(a, {rows} == {rows})"),
        format!("{rows} + {rows} + {rows} + {rows} + {rows} + {rows} + {rows}"),
        format!("{rows}.map(a, {rows} + {rows})"),
        format!("{rows}.all(a, job.payload.keys.exists(k, true))"),
        format!("{rows}.all(a, job.payload.keys.exists(k, k == 'none'))"),
        format!("{rows}.all(a, job.payload.keys == job.payload.keys)"),
        format!("{rows}.all(a, size(job.payload.keys) > 0)"),
        format!("{rows}.map(a, job.payload.keys)"),
        format!("{rows}.all(a, {big}.contains('ab'))"),
        format!("{rows}.all(a, {big}.startsWith('b') || true)"),
        format!("{rows}.all(a, {big}.endsWith({big}))"),
        format!("{rows}.all(a, {big}.lowerAscii() != '')"),
        format!("{rows}.map(a, {big}.upperAscii())"),
        format!("{rows}.all(a, {big} == {big})"),
        format!("{rows}.all(a, {big} < {big} || true)"),
        format!("{rows}.all(a, size({big}) > 0)"),
        format!("{rows}.map(a, {big} + {big})"),
        format!("{rows}.map(a, {{'k': {big} + string(a)}})"),
        format!("{rows}.all(a, {big}.matches('^(a|aa)+$') || true)"),
        format!("{rows}.all(a, {big}.matches('(a*)*b') || true)"),
        format!("{rows}.all(a, {big}.matches('a{{1,200}}b') || true)"),
        format!("{big}.matches('(x+x+)+y')"),
        format!("{rows}.map(a, a > 0 ? {rows} : {rows})"),
        format!("{rows}.exists(a, job.payload.missing[a])"),
        format!("{rows}.all(a, job.payload.missing == 1)"),
        format!("{rows}.all(a, 1 / 0 == 1 || true)"),
    ]
    .into()
}

/// Much made of little: patterns, numbers, doublings, depth, length.
fn swelling() -> Vec<String> {
    let chain = |first: &str, link: &str, n: usize| format!("{first}{}", link.repeat(n));
    let nested = |open: &str, inner: &str, close: &str, n: usize| {
        format!("{}{inner}{}", open.repeat(n), close.repeat(n))
    };
    let list = |n: usize| format!("[{}]", vec!["1"; n].join(","));
    [
        "'a'.matches('((a{100}){100}){100}')".into(),
        "'a'.matches('(?:\\\\p{L}{500}){500}')".into(),
        format!("'a'.matches('{}')", "(".repeat(20_000)),
        format!("'a'.matches('{}')", "a?".repeat(20_000)),
        "9223372036854775807 * 9223372036854775807".into(),
        "-9223372036854775808 / -1 + (-9223372036854775808 % -1)".into(),
        "int(1e308) + int('99999999999999999999999999')".into(),
        "1e308 * 1e308 == 1e308 * 1e308 * 10.0".into(),
        chain("'x'", " + 'x'", 4_000),
        chain("['0123456789abcdef']", ".map(s, s + s + s + s)", 30),
        chain("[1]", ".map(x, [x, x])", 30),
        format!("{} == []", chain("[1]", ".map(x, [x, x])", 30)),
        format!("[{}].all(v, v == v)", chain("[1]", ".map(x, [x, x])", 20)),
        format!("[{}].exists(v, v in [v + v])", chain("[1]", ".map(x, [x, x])", 20)),
        chain("[[1]]", ".map(x, x + x)", 30),
        nested("[true].all(x, ", "true", ")", 31),
        nested("[1, 2, 3].map(x, ", "1", ")", 31),
        nested("[1, 2].exists_one(x, ", "true", ")", 25),
        nested("(", "1", ")", 31),
        nested("[", "1", "]", 60_000),
        nested("!", "true", "", 60_000),
        nested("true ? 1 : ", "2", "", 6_000),
        nested("{'a': ", "1", "}", 5_000),
        chain("config", ".a", 30_000),
        chain("config", "[0]", 20_000),
        list(9_999),
        format!("{}.all(a, {}.all(b, true))", list(3_000), list(3_000)),
        format!("{{{}}}", (0..3_000).map(|n| format!("'k{n}': {n}")).collect::<Vec<_>>().join(",")),
        format!("true{}", " && true".repeat(5_000)),
        format!("false{}", " || 1 / 0 == 0".repeat(2_000)),
        format!("'{}'", "\\u0061".repeat(10_000)),
        format!("{}1", "// comment\n".repeat(5_000)),
        "\u{0}\u{feff}\u{202e}".into(),
        tower(2, 7),
    ]
    .into()
}

/// Macros in macros that put a list into a list for every part of the text, and many for each level of it.
fn tower(levels: usize, width: usize) -> String {
    fn wrap(of: &str, levels: usize, width: usize) -> String {
        let mut text = format!("[{of}]");
        for _ in 0..width {
            let name = format!("v{levels}");
            let inner = if levels == 0 { format!("[{name}]") } else { wrap(&name, levels - 1, width - 1) };
            text = format!("{text}.map({name}, {inner})");
        }
        text
    }
    format!("[{}].all(t, t == t)", wrap("1", levels, width))
}

fn run(text: &str, job: Job<'_>) -> Result<(), String> {
    let begun = Instant::now();
    let told = match parse(text) {
        Err(mistake) => mistake.message,
        Ok(expression) => {
            let (world, purse) = (World::new(job), purse());
            let mut meter = purse.meter();
            let value =
                expression.evaluate_on(&world, &mut meter).and_then(|value| value.to_json(&mut meter));
            drop(meter);
            let is_limit = value.as_ref().is_err_and(|fault| fault.is_limit());
            assert!(is_limit || purse.spent() <= EACH, "{} steps: {}", purse.spent(), &text[..40]);
            value.map_or_else(|fault| fault.to_string(), |_| "a value".into())
        }
    };
    let took = begun.elapsed();
    if took > PATIENCE { Err(format!("{took:?}: {told}")) } else { Ok(()) }
}

#[test]
fn sixty_programs_end_within_their_purse_and_a_small_stack() {
    let payload = serde_json::json!({
        "rows": vec![1; 5_000],
        "keys": (0..1_500).map(|n| (format!("key{n}"), n)).collect::<std::collections::BTreeMap<_, _>>(),
        "big": "a".repeat(20_000),
    });
    let payload = payload.to_string();
    assert!(payload.len() < 64 << 10);
    let judged = std::thread::Builder::new().stack_size(512 << 10).spawn(move || {
        let job = Job { payload: payload.as_bytes(), content_type: "application/json", ..Job::default() };
        let programs = [greedy(), swelling()].concat();
        assert!(programs.len() >= 60, "{}", programs.len());
        for text in programs {
            let shown = text.get(..60).unwrap_or(&text).to_owned();
            assert_eq!(run(&text, job), Ok(()), "{shown}");
        }
    });
    judged.unwrap().join().expect("no program ends the thread");
}

#[test]
fn values_that_expressions_make_are_nested_to_a_bound() {
    let text = tower(2, 7);
    let expression = parse(&text).expect("the text is not deep");
    let world = World::new(Job::default());
    let rich = Purse::new(10_000_000, 10_000_000, "all");
    let told = expression.evaluate(&world, &rich).unwrap_err();
    assert!(told.is_limit());
    assert_eq!(told.to_string(), "it makes lists or maps nested deeper than 64 levels");
}

/// The deepest payload inside the deepest literal.
#[test]
fn the_deepest_value_is_compared_and_written_within_a_small_stack() {
    let judged = std::thread::Builder::new().stack_size(512 << 10).spawn(|| {
        let payload = format!("{}{}", "[".repeat(127), "]".repeat(127));
        let job = Job { payload: payload.as_bytes(), content_type: "application/json", ..Job::default() };
        let wrapped = format!("{}job.payload{}", "[".repeat(28), "]".repeat(28));
        let text = format!("{wrapped} == {wrapped} ? {wrapped} : 1");
        let expression = parse(&text).unwrap();
        let (world, purse) = (World::new(job), purse());
        let mut meter = purse.meter();
        let json = expression.evaluate_on(&world, &mut meter).and_then(|value| value.to_json(&mut meter));
        assert_eq!(json.unwrap().to_string().len(), 2 * (127 + 28));
        drop(meter);
        assert!(purse.spent() < ALL);
    });
    judged.unwrap().join().expect("no value ends the thread");
}
