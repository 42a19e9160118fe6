use super::*;
use proptest::prelude::*;

#[test]
fn good_texts_pass() {
    let deep = format!("{}1{}", "[".repeat(64), "]".repeat(64));
    let wide = format!("{{{}}}", (0..200).map(|n| format!("\"k{n}\":{n}")).collect::<Vec<_>>().join(","));
    for good in [
        "{}",
        "[]",
        " null ",
        "true",
        "-0",
        "0.1",
        "1e308",
        "-1.5E-7",
        "\"\"",
        "\"\\ud83d\\ude00\"",
        "\"é\"",
        &deep,
        &wide,
        "9223372036854775807",
        "18446744073709551615",
        "{\"a\":{\"a\":1},\"b\":[1,2,{\"a\":1}]}",
        "0e999",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
    ] {
        assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
    }
}

#[test]
fn bad_texts_name_place_and_rule() {
    let deep = format!("{}1{}", "[".repeat(65), "]".repeat(65));
    let wide =
        format!("{{{},\"k3\":0}}", (0..40).map(|n| format!("\"k{n}\":{n}")).collect::<Vec<_>>().join(","));
    for (bad, rule) in [
        ("", "ends"),
        ("{\"a\":", "ends"),
        ("{\"a\":1", "ends"),
        ("[1,2", "ends"),
        ("\"abc", "ends"),
        ("\u{feff}{}", "byte order mark"),
        ("NaN", "NaN"),
        ("[Infinity]", "NaN"),
        ("[-Infinity]", "digit"),
        ("[1,]", "comma"),
        ("{\"a\":1,}", "comma"),
        ("{\"a\":1,\"a\":2}", "twice"),
        ("{\"a\":1,\"\\u0061\":2}", "twice"),
        (&wide, "twice"),
        ("\"\\ud800\"", "lone surrogate"),
        ("\"\\ud800\\u0041\"", "lone surrogate"),
        ("\"\\udc00\"", "lone surrogate"),
        (&deep, "deeper than 64"),
        ("1e400", "not representable"),
        ("1e-400", "not representable"),
        ("123456789012345678901234567890", "not representable"),
        ("01", "begin with 0"),
        ("1.", "digit after"),
        ("1e", "digit in"),
        ("+1", "expected a value"),
        ("{a:1}", "key in double quotes"),
        ("{'a':1}", "key in double quotes"),
        ("\"\t\"", "control character"),
        ("\"\\x\"", "no escape"),
        ("\"\\u12g4\"", "four hex digits"),
        ("1 2", "follows"),
        ("tru", "expected true"),
        ("undefined", "expected a value"),
        ("{\"a\" 1}", "expected `:`"),
    ] {
        let fault = check(bad.as_bytes()).expect_err(bad);
        assert!(fault.rule.contains(rule), "{bad}: {fault}");
    }
    let fault = check("{\n  \"é\": [1,\n  2,]\n}".as_bytes()).expect_err("trailing comma");
    assert_eq!((fault.line, fault.column), (3, 5));
    assert!(check(b"\"\xff\"").is_err_and(|f| f.rule.contains("UTF-8")));
}

#[test]
fn values_become_canonical_text_and_back() {
    for text in ["{\"a\":[1,0.5,-3,1e+300,null,true,\"x\\n\"],\"b\":{}}", "-0.0", "9007199254740992", "[]"] {
        let value = to_value(text.as_bytes()).expect(text);
        assert_eq!(String::from_utf8(canonical(&value).expect(text)).expect("UTF-8"), text);
    }
    assert_eq!(to_value(b"9007199254740993"), None, "would be rounded");
    let number = |n| Value { kind: Some(Kind::NumberValue(n)) };
    assert!(canonical(&number(f64::NAN)).is_err());
    assert!(canonical(&number(f64::INFINITY)).is_err());
    assert!(canonical(&Value { kind: None }).is_err());
    let deep = (0..66)
        .fold(number(1.0), |v, _| Value { kind: Some(Kind::ListValue(ListValue { values: vec![v] })) });
    assert!(canonical(&deep).is_err());
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = check(&bytes);
    }

    #[test]
    fn near_json_agrees_with_a_parser(text in "[\\[\\]{}:,\"a0-9.e\\\\ -]{0,24}") {
        // What we accept, a JSON parser accepts too.
        if check(text.as_bytes()).is_ok() {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
        }
    }
}
