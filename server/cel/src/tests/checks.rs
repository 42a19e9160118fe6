//! What is refused before there are values would be refused with any.

use super::purse;
use crate::{Expression, Fault, Inputs, Key, Kind, Kinds, Payload, Root, Scope, Value};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value as Json, json};

const NAMES: [(&str, Kinds); 8] = [
    ("nil", Kinds::NULL),
    ("yes", Kinds::BOOL),
    ("int", Kinds::INT),
    ("dbl", Kinds::DOUBLE),
    ("txt", Kinds::TEXT),
    ("list", Kinds::LIST),
    ("map", Kinds::MAP),
    ("num", Kinds::NUMBER),
];

macro_rules! scopes {
    ($($name:ident $null_selects:literal),*) => { $(static $name: Scope = Scope {
        roots: &[
            Root::value("nil", 0, Kinds::ANY),
            Root::value("yes", 1, Kinds::ANY),
            Root::value("int_", 2, Kinds::ANY),
            Root::value("dbl", 3, Kinds::ANY),
            Root::value("txt", 4, Kinds::ANY),
            Root::value("list", 5, Kinds::ANY),
            Root::value("map_", 6, Kinds::ANY),
            Root::value("num", 7, Kinds::ANY),
            Root::value("any", 8, Kinds::ANY),
            Root::value("lazy", 9, Kinds::ANY),
        ],
        null_selects: $null_selects,
    };)* };
}
scopes!(STRICT false, FLOWING true);

/// Several worlds; in each every name has the kind that is told of it.
struct World {
    values: Vec<Json>,
    payload: Payload<'static>,
}

impl Inputs for World {
    fn read(&self, number: u16) -> Result<Value<'_>, Fault> {
        if number == 9 {
            return Ok(Value::Lazy(&self.payload));
        }
        Ok(Value::of_json(&self.values[usize::from(number)]))
    }
}

fn worlds() -> Vec<World> {
    let world = |values: Json, payload: &'static str| World {
        values: values.as_array().unwrap().clone(),
        payload: Payload::new(payload.as_bytes(), "application/json", 1_000),
    };
    vec![
        world(json!([null, true, 1, 1.5, "a", [1, "a", null], {"i": 1, "t": "a", "n": null}, 2, 1, 0]), "1"),
        world(json!([null, false, 0, 0.5, "", [], {"i": -7, "t": "", "n": null}, 2.5, "a", 0]), "null"),
        world(
            json!([null, true, 3, 2.0, "7", [[1], {}], {"i": 0, "t": "x"}, -1, true, 0]),
            "{\"i\": [true]}",
        ),
        world(
            json!([null, false, 2, -1.0, "bc", [true, 0], {"i": 2, "t": "7", "n": null}, 0.0, null, 0]),
            "[]",
        ),
        world(json!([null, true, -1, 1e300, "a", ["x"], {}, 1, {"i": 1}, 0]), "\"a\""),
        world(json!([null, false, 9, 0.25, "q", [0.5], {"t": "q"}, 1, [2, "a"], 0]), "true"),
    ]
}

fn known(number: u16, path: &[Key]) -> Kinds {
    let field = |name: &str| Key::Field(name.into());
    match (number, path) {
        (number, []) => NAMES.get(usize::from(number)).map_or(Kinds::ANY, |(_, kinds)| *kinds),
        (6, [key]) if *key == field("i") => Kinds::INT,
        (6, [key]) if *key == field("t") => Kinds::TEXT,
        (6, [key]) if *key == field("n") => Kinds::NULL,
        (6, [key]) if *key == field("never") => Kinds::NONE,
        _ => Kinds::ANY,
    }
}

fn check(text: &str, scope: &'static Scope) -> Result<Kinds, (usize, String)> {
    let expression = Expression::parse(text, scope).map_err(|mistake| (mistake.at, mistake.message))?;
    expression.check(&known).map_err(|mistake| (mistake.at, mistake.message))
}

#[test]
fn what_can_never_have_a_value_is_refused_at_its_byte() {
    let cases = [
        ("1 + 'a'", 2, "a whole number and a text do not go together here"),
        ("1 + 2.0", 2, "do not go together here"),
        ("num % 2.0", 4, "do not go together"),
        ("yes + yes", 4, "do not go together"),
        ("size(3)", 5, "`size` wants a text, a list or a map, not a whole number"),
        ("!map_.t", 6, "a condition wants true or false, not a text"),
        ("-txt", 1, "`-` wants a number, not a text"),
        ("list < list", 5, "a list and a list have no order"),
        ("nil >= nil", 4, "have no order"),
        ("1 in num", 5, "`in` wants a list or a map, not a number"),
        ("txt.all(c, c == 'a')", 0, "a macro wants a list or a map, not a text"),
        ("int_ ? 1 : 2", 0, "a condition wants true or false, not a whole number"),
        ("txt.x", 4, "a text has no fields"),
        ("map_.t.x", 7, "a text has no fields"),
        ("has(txt.x)", 0, "a text has no fields"),
        ("list.x", 5, "a list has no fields"),
        ("list['a']", 5, "the index of a list wants a whole number, not a text"),
        ("map_[list]", 5, "the key of a map wants a text, a number, true or false, not a list"),
        ("txt[0]", 3, "a text has no fields"),
        ("map_.never", 5, "there is no field `never`"),
        ("txt && 1", 0, "a condition wants"),
        ("any == (1 + 'a')", 10, "do not go together"),
        ("any ? 1 + 'a' : size(1)", 8, "do not go together"),
        ("[any, -'a']", 7, "`-` wants"),
        ("{[1]: 2}", 1, "the key of a map wants"),
        ("{'a': !1}", 7, "a condition wants"),
        ("int_.startsWith('a')", 0, "`startsWith` wants a text"),
        ("'a'.contains(1)", 13, "`contains` wants a text"),
        ("int_.matches('a')", 0, "`matches` wants a text"),
        ("string(list)", 7, "`string` wants true or false, a number or a text, not a list"),
        ("int(yes)", 4, "`int` wants a number or a text, not true or false"),
        ("(yes ? 1 : 2.0) + 'a'", 16, "a number and a text do not go together"),
    ];
    for (text, at, part) in cases {
        let (place, message) = check(text, &STRICT).expect_err(text);
        assert!(message.contains(part), "{text}: {message}");
        assert_eq!(place, at, "{text}: {message}");
    }
    assert_eq!(check("nil.x", &STRICT).unwrap_err().1, "null has no fields");
}

#[test]
fn anything_with_an_unknown_part_passes_and_kinds_are_pushed_up() {
    let cases = [
        ("any + 1", Kinds::INT),
        ("any + any", Kinds::NUMBER.or(Kinds::TEXT).or(Kinds::LIST)),
        ("any - any", Kinds::NUMBER),
        ("any.x.y[0]", Kinds::ANY),
        ("lazy.i + 'a'", Kinds::TEXT),
        ("map_.i * 2", Kinds::INT),
        ("map_.unknown", Kinds::ANY),
        ("num * num", Kinds::NUMBER),
        ("yes ? txt : 1", Kinds::TEXT.or(Kinds::INT)),
        ("yes ? 1 + 'a' : txt", Kinds::TEXT),
        ("any || size(1) > 0", Kinds::BOOL),
        ("yes && txt", Kinds::BOOL),
        ("list.map(x, x + size(1))", Kinds::LIST),
        ("list[int_]", Kinds::ANY),
        ("has(map_.never)", Kinds::BOOL),
        ("nil == 1", Kinds::BOOL),
        ("[1] + list", Kinds::LIST),
        ("'a' + string(num)", Kinds::TEXT),
    ];
    for (text, kinds) in cases {
        assert_eq!(check(text, &STRICT), Ok(kinds), "{text}");
    }
    assert_eq!(check("nil.x[0]", &FLOWING), Ok(Kinds::NULL));
    assert_eq!(check("map_.n.x", &FLOWING), Ok(Kinds::NULL));
    assert!(check("nil.x + 1", &FLOWING).is_err());
}

/// Texts of random expressions over names of known kinds.
fn expression() -> impl Strategy<Value = String> {
    let leaf = select(vec![
        "any",
        "any",
        "any.i",
        "lazy",
        "lazy.i",
        "num",
        "nil",
        "yes",
        "int_",
        "dbl",
        "txt",
        "list",
        "map_",
        "num",
        "any",
        "lazy",
        "1",
        "2.5",
        "'a'",
        "true",
        "false",
        "null",
        "[]",
        "[1, 'a']",
        "{}",
        "{'i': 1}",
        "map_.i",
        "map_.t",
        "map_.n",
        "map_.never",
    ])
    .prop_map(str::to_owned);
    let binary = select(vec!["+", "-", "*", "/", "%", "==", "==", "!=", "<", ">=", "in", "&&", "||"]);
    let call = select(vec!["size", "int", "double", "string", "!", "-"]);
    let tail = select(vec![
        ".i",
        ".x",
        "[0]",
        "['i']",
        ".matches('a')",
        ".lowerAscii()",
        ".all(v, v == 1)",
        ".exists(v, v)",
        ".map(v, v + 1)",
        ".filter(v, v < 2)",
        ".map(v, v == 1, [v])",
        ".exists_one(v, v in list)",
    ]);
    leaf.prop_recursive(5, 24, 3, move |inner| {
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            4 => (pair.clone(), binary.clone()).prop_map(|((a, b), sign)| format!("({a} {sign} {b})")),
            2 => (inner.clone(), call.clone()).prop_map(|(a, f)| format!("{f}({a})")),
            3 => (inner.clone(), tail.clone()).prop_map(|(a, tail)| format!("({a}){tail}")),
            1 => (pair.clone(), inner.clone()).prop_map(|((a, b), c)| format!("({a} ? {b} : {c})")),
            1 => pair.clone().prop_map(|(a, b)| format!("[{a}, {b}]")),
            1 => pair.clone().prop_map(|(a, b)| format!("{{{a}: {b}}}")),
            1 => pair.clone().prop_map(|(a, b)| format!("({a})[{b}]")),
            1 => pair.prop_map(|(a, b)| format!("({a}).contains({b})")),
            1 => inner.prop_map(|a| format!("has(({a}).i)")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// And what passes gives a value of the kinds that were told, if any.
    #[test]
    fn what_is_refused_before_evaluation_has_no_value_in_any_world(text in expression(), flows in any::<bool>()) {
        let scope = if flows { &FLOWING } else { &STRICT };
        let Ok(expression) = Expression::parse(&text, scope) else { return Ok(()) };
        let checked = expression.check(&known);
        for world in worlds() {
            let purse = purse();
            let value = expression.evaluate(&world, &purse).and_then(Value::opened);
            match (&checked, value) {
                (Err(mistake), Ok(value)) => prop_assert!(false, "{text} gives {value:?}; refused: {mistake:?}"),
                (Ok(kinds), Ok(value)) => {
                    let kind = value.kind().unwrap_or(Kind::Null);
                    prop_assert!(kinds.has(kind), "{text} gives {value:?}; told: {kinds}");
                }
                (_, Err(_)) => {}
            }
        }
    }
}

/// The property above sees enough of both.
#[test]
fn random_expressions_are_refused_and_taken() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut refused, mut valued) = (0, 0);
    for _ in 0..1_000 {
        let text = expression().new_tree(&mut runner).unwrap().current();
        let Ok(expression) = Expression::parse(&text, &STRICT) else { continue };
        let has_value = worlds().iter().any(|world| expression.evaluate(world, &purse()).is_ok());
        refused += u32::from(expression.check(&known).is_err());
        valued += u32::from(has_value);
    }
    assert!(refused > 200 && valued > 150, "{refused} refused, {valued} with a value");
}
