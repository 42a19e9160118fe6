//! Laws of layers, and a table of what is refused.

use super::*;
use crate::limits::{CONFIG_BYTES_MAX, CONFIG_DEPTH_MAX, CONFIG_LEAVES_MAX};
use proptest::prelude::*;
use serde_json::{Map, json};

/// Few keys and all kinds, so that layers meet.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..5_i64).prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no such numbers", |n| n.is_finite()).prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
        prop::collection::vec((0..3_i64).prop_map(Value::from), 0..3).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| prop::collection::vec((key(), inner), 0..4).prop_map(map_of))
}

fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c.d", "e"]).prop_map(str::to_owned)
}

fn map_of(fields: Vec<(String, Value)>) -> Value {
    Value::Object(fields.into_iter().collect::<Map<_, _>>())
}

fn layer() -> impl Strategy<Value = Value> {
    prop::collection::vec((key(), value()), 0..4).prop_map(map_of)
}

/// The last layer that has something at the path, and what; none if a later layer took it away or replaced it.
fn who_set(layers: &[Value], at: &Path) -> Option<(usize, Value)> {
    for (by, layer) in layers.iter().enumerate().rev() {
        let mut part = layer;
        for (n, key) in at.0.iter().enumerate() {
            match part.as_object().map(|fields| fields.get(key)) {
                Some(Some(next)) => part = next,
                Some(None) => break,
                None => return None,
            }
            if n + 1 == at.0.len() {
                return (!part.is_null()).then(|| (by, part.clone()));
            }
        }
    }
    None
}

fn shuffled(value: &Value) -> Value {
    // A map made in another order; what it holds is the same.
    match value {
        Value::Object(fields) => {
            Value::Object(fields.iter().rev().map(|(key, item)| (key.clone(), shuffled(item))).collect())
        }
        other => other.clone(),
    }
}

proptest! {
    #[test]
    fn laying_layers_on_each_other_is_associative_prop(a in layer(), b in layer(), c in layer()) {
        let [a, b, c] = [(a, 0), (b, 1), (c, 2)].map(|(data, by)| Node::of(&data, by));
        let left = a.clone().under(b.clone()).under(c.clone());
        let right = a.under(b.under(c));
        prop_assert_eq!(left.finish(), right.finish());
    }

    #[test]
    fn every_leaf_names_the_layer_that_set_it_prop(layers in prop::collection::vec(layer(), 1..6)) {
        let all: Vec<&Value> = layers.iter().collect();
        let Effective { data, sources } = effective(&all);
        for (path, by) in &sources {
            let path: Path = path.parse().expect("a path of ours");
            let shown = lookup(&data, &path).expect("a leaf that is there");
            let (setter, set) = who_set(&layers, &path).expect("a layer set it");
            prop_assert_eq!(setter, *by, "{} in {}", path, data);
            if shown.is_object() {
                // An empty map: what the layer gave it, or what it left of it.
                prop_assert_eq!(shown, &json!({}));
            } else {
                prop_assert_eq!(shown, &set);
            }
        }
        let mut leaves = Vec::new();
        gather(&data, &Path::default(), &mut leaves);
        let mut named: Vec<Path> = sources.keys().map(|path| path.parse().expect("a path of ours")).collect();
        named.sort();
        prop_assert_eq!(leaves, named);
    }

    #[test]
    fn the_digest_does_not_depend_on_the_order_of_keys_prop(layers in prop::collection::vec(layer(), 1..4)) {
        let other: Vec<Value> = layers.iter().map(shuffled).collect();
        let digest = |layers: &[Value]| {
            let all: Vec<&Value> = layers.iter().collect();
            digest_of(canonical(&effective(&all).data).as_bytes())
        };
        prop_assert_eq!(digest(&layers), digest(&other));
        let text = canonical(&layers[0]);
        prop_assert_eq!(canonical(&serde_json::from_str(&text).expect("JSON")), text);
    }

    #[test]
    fn a_path_reads_as_it_is_written_prop(keys in prop::collection::vec("[A-Za-z0-9_.-]{1,6}", 0..5)) {
        let path = Path(keys);
        prop_assert_eq!(path.to_string().parse::<Path>(), Ok(path));
    }
}

/// Paths of all leaves, in order.
fn gather(data: &Value, at: &Path, leaves: &mut Vec<Path>) {
    match data.as_object() {
        Some(fields) if !fields.is_empty() || at.0.is_empty() => {
            let mut below = Vec::new();
            for (key, item) in fields {
                let mut path = at.clone();
                path.0.push(key.clone());
                gather(item, &path, &mut below);
            }
            leaves.extend(below);
            leaves.sort();
        }
        _ => leaves.push(at.clone()),
    }
}

#[test]
fn later_layers_win_lists_replace_and_null_takes_away() {
    let system = json!({"llm": {"model": "small", "tags": [1, 2], "limit": 5}, "region": "eu"});
    let org = json!({"llm": {"model": "big", "tags": [3]}, "region": null});
    let team = json!({"llm": {"limit": null}});
    let found = effective(&[&system, &org, &team]);
    assert_eq!(found.data, json!({"llm": {"model": "big", "tags": [3]}}));
    let sources: Vec<(&str, usize)> = found.sources.iter().map(|(path, by)| (path.as_str(), *by)).collect();
    assert_eq!(sources, [("llm.model", 1), ("llm.tags", 1)]);
    assert_eq!(effective(&[]).data, json!({}));
}

#[test]
fn a_merge_patch_changes_what_it_names() {
    let present = json!({"a": {"b": 1, "c": 2}, "d": 3});
    let patched = merge_patch(present, json!({"a": {"b": null, "e": 4}, "d": {"f": 5}}));
    assert_eq!(patched, json!({"a": {"c": 2, "e": 4}, "d": {"f": 5}}));
}

#[test]
fn canonical_text_is_golden() {
    let value = json!({"b": [1.0, 2.5, -0.0, 1e300], "a": "é\n\"", "c": {}});
    assert_eq!(canonical(&value), r#"{"a":"é\n\"","b":[1,2.5,-0.0,1e+300],"c":{}}"#);
    // Digests are kept in records: they must never change.
    let digest = hex(&digest_of(canonical(&value).as_bytes()));
    assert_eq!(digest, "275a839928c1194d1170abb30ea610e18db9b6a93af114d29e0c918ca839cf8b");
}

fn nested(depth: usize) -> Value {
    (1..depth).fold(json!({}), |inner, _| json!({"k": inner}))
}

#[test]
fn bad_data_is_refused_with_field_limit_and_value() {
    let wide: Map<String, Value> = (0..=CONFIG_LEAVES_MAX).map(|n| (format!("k{n}"), json!(1))).collect();
    let table = [
        (json!([1]), "data", "must be a map, got array"),
        (json!({"a b": 1}), "data", "position 1 is ' '"),
        (json!({"a": {"": 1}}), "data.a", "it is empty"),
        (json!({"x": {"a".repeat(129): 1}}), "data.x", "it has 129 characters"),
        (json!({"x": [{"é": 1}]}), "data.x[0]", "position 0"),
        (nested(CONFIG_DEPTH_MAX + 1), "data.k", "at most 32 deep"),
        (Value::Object(wide), "data", "at most 10000 leaves, got 10001"),
        (
            json!({"x": "a".repeat(CONFIG_BYTES_MAX)}),
            "data",
            "at most 262144 bytes as canonical JSON, got 262152",
        ),
    ];
    for (data, field, message) in table {
        let faults = check_data("data", &data);
        let fault = faults.first().expect("a fault");
        assert!(fault.field.starts_with(field), "{fault:?}");
        assert!(fault.message.contains(message), "{fault:?}");
    }
    assert_eq!(check_data("data", &nested(CONFIG_DEPTH_MAX)), []);
    let many: Map<String, Value> = (0..500).map(|n| (format!("k {n}"), json!(1))).collect();
    assert!(check_data("data", &Value::Object(many)).len() <= 101);
}

#[test]
fn scopes_read_as_they_are_written() {
    let here = Namespace::new("acme");
    for text in ["system", "org", "team/a", "workflow/code-review", "step/code-review/hunks"] {
        assert_eq!(text.parse::<Scope>().map(|scope| scope.to_string()), Ok(text.to_owned()));
    }
    for text in ["", "team", "team/", "org/acme", "squad/a"] {
        assert!(text.parse::<Scope>().is_err(), "{text}");
    }
    assert_eq!(Scope::new(Level::Org, "acme", &here), Ok(Scope::org()));
    assert!(Scope::new(Level::Org, "other", &here).is_err_and(|e| e.contains("acme") && e.contains("other")));
    assert!(Scope::new(Level::System, "x", &here).is_err());
    assert!(Scope::new(Level::Team, "", &here).is_err_and(|e| e.contains("required")));
    assert!(Scope::new(Level::Team, "a b", &here).is_err_and(|e| e.contains("position 1")));
    assert_eq!(Scope::system().home(&here), Namespace::installation());
}

#[test]
fn a_schema_tells_all_violations_at_once() {
    let schema = json!({
        "type": "object",
        "required": ["model", "region"],
        "properties": {
            "model": {"type": "string", "enum": ["small", "big"]},
            "limit": {"type": "integer", "minimum": 1, "maximum": 10},
            "ratio": {"type": ["number", "null"], "exclusiveMinimum": 0},
            "name": {"pattern": "^[a-z]+$", "minLength": 2, "maxLength": 4},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
        },
        "additionalProperties": false,
        "description": "how models are asked",
    });
    let schema = Schema::read("schema", &schema).expect("a schema");
    let good = json!({"model": "big", "region": 1}).as_object().cloned();
    assert!(good.is_some());
    let bad =
        json!({"model": "huge", "limit": 11, "ratio": 0, "name": "A2345", "tags": ["a", 2, "c"], "odd": 1});
    let faults = schema.faults("data.llm", &bad);
    let told: Vec<String> = faults.iter().map(|f| format!("{}: {}", f.field, f.message)).collect();
    for wanted in [
        "data.llm.region: required: must be there, got nothing",
        "data.llm.model: enum: must be one of \"small\", \"big\", got \"huge\"",
        "data.llm.limit: maximum: must be at most 10, got 11",
        "data.llm.ratio: exclusiveMinimum: must be more than 0, got 0",
        "data.llm.name: maxLength: must be at most 4 characters, got \"5 characters\"",
        "data.llm.name: pattern: must match \"^[a-z]+$\", got \"A2345\"",
        "data.llm.tags: maxItems: must be at most 2 items, got \"3 items\"",
        "data.llm.tags[1]: type: must be string, got 2",
        "data.llm.odd: additionalProperties: must not be there, got 1",
    ] {
        assert!(told.iter().any(|one| one == wanted), "{wanted} is not in {told:#?}");
    }
    assert_eq!(told.len(), 9, "{told:#?}");
    let fine = Schema::read("schema", &json!({"items": {"type": "integer"}})).expect("a schema");
    assert_eq!(fine.faults("data", &json!([1, 2.0])), []);
}

#[test]
fn a_schema_with_words_of_no_meaning_is_refused() {
    let table = [
        (json!(5), "schema", "got number"),
        (json!({"typ": "string"}), "schema.typ", "did you mean `type`"),
        (json!({"type": "text"}), "schema.type", "got \"text\""),
        (json!({"type": []}), "schema.type", "at least one type"),
        (json!({"enum": []}), "schema.enum", "at least one value"),
        (json!({"pattern": "("}), "schema.pattern", "is no pattern"),
        (json!({"pattern": "a{1000}{1000}"}), "schema.pattern", "is no pattern"),
        (json!({"minLength": -1}), "schema.minLength", "a whole number from 0, got -1"),
        (json!({"minimum": "x"}), "schema.minimum", "must be a number, got \"x\""),
        (json!({"properties": {"a": {"items": 3}}}), "schema.properties.a.items", "got number"),
        (json!({"required": "a"}), "schema.required", "a list of texts"),
        (json!({"$ref": "http://example.com/s.json"}), "schema.$ref", "no schema served"),
    ];
    for (schema, field, message) in table {
        let faults = Schema::read("schema", &schema).expect_err(&schema.to_string());
        assert_eq!(faults[0].field, field);
        assert!(faults[0].message.contains(message), "{faults:?}");
    }
    let deep = (0..40).fold(json!({}), |inner, _| json!({"items": inner}));
    assert!(Schema::read("schema", &deep).is_err());
    assert!(Schema::read("schema", &json!({"title": "x".repeat(70_000)})).is_err());
}
