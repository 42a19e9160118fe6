//! What the guide says of the language is so.

use super::{Job, evaluate, with_job};
use crate::limits::*;

const GUIDE: &str = include_str!("../../../../docs/guide/expressions.md");

#[test]
fn the_figures_of_the_guide_are_those_of_the_code() {
    let row =
        |name: &str| GUIDE.lines().find(|line| line.starts_with(&format!("| {name}"))).unwrap_or_default();
    assert!(row("text of an expression").ends_with(&format!("| {} KiB |", EXPRESSION_BYTES_MAX >> 10)));
    assert!(row("nesting of an expression").ends_with(&format!("| {EXPRESSION_DEPTH_MAX} levels |")));
    assert!(row("parts of an expression").ends_with("| 10,000 |") && EXPRESSION_PARTS_MAX == 10_000);
    assert!(row("nesting of the lists").ends_with(&format!("| {VALUE_DEPTH_MAX} levels |")));
    assert!(GUIDE.contains(&format!("at most {} KiB compiled", REGEX_BYTES_MAX >> 10)));
    assert!(GUIDE.contains("at most 1 MiB in one text, and any text 1,000 expressions"));
    assert_eq!((TEMPLATE_BYTES_MAX, TEMPLATE_EXPRESSIONS_MAX), (1 << 20, 1_000));
}

#[test]
fn every_function_macro_and_escape_is_in_the_guide() {
    let told = ["size", "contains", "startsWith", "endsWith", "matches", "lowerAscii", "upperAscii"];
    let more = ["int", "double", "string", "has", "all", "exists", "exists_one", "filter", "map"];
    for name in told.into_iter().chain(more) {
        assert!(GUIDE.contains(&format!("{name}(")), "{name}");
    }
    for (name, ..) in crate::operator::Function::ALL {
        assert!(GUIDE.contains(&format!("{name}(")), "{name}");
    }
    let escapes = [r"\n", r"\t", r"\r", r"\a", r"\b", r"\f", r"\v", r"\\", r"\'", r#"\""#, r"\`", r"\?"];
    for escape in escapes.into_iter().chain([r"\xFF", r"\uFFFD", r"\U0001F600", r"\377"]) {
        let text = format!("size('{escape}')");
        assert_eq!(evaluate(&text, &Job::default()), Ok("1".into()), "{text}");
    }
}

#[test]
fn operators_bind_as_the_guide_says() {
    let cases = [
        ("-[1, 2][1] * 3 + 1 == -5 && !false", "true"),
        ("1 + 2 * 3 - 8 / 4 % 3", "5"),
        ("10 - 4 - 3", "3"),
        ("false && true || true", "true"),
        ("true || false && false", "true"),
        ("1 < 2 == true", "true"),
        ("2 in [1, 2] == true", "true"),
        ("true ? 1 : false ? 2 : 3", "1"),
        ("false < true && 'Z' < 'a' && 1 < 1.5", "true"),
        ("null == 0 || '' == 0 || [] == {}", "false"),
        ("size('é') + size([1, 2]) + size({'a': 1}) + 'abc'.size()", "7"),
        ("int(-2.9) + int('7') + int(1)", "6"),
        ("double(1) + double('0.5')", "1.5"),
        ("string(1) + string(true) + string('a') + string(1.5)", "\"1truea1.5\""),
        ("[1, 2, 3].map(v, v > 1, v * 2) == [4, 6] && {'a': 1}.all(k, k == 'a')", "true"),
    ];
    with_job(|job| {
        for (text, expected) in cases {
            assert_eq!(evaluate(text, job), Ok(expected.into()), "{text}");
        }
    });
}
