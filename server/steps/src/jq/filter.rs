//! A jq filter over a value. Pure, and without any bound on time, memory or stack: see [`super::child`].

use jaq_core::box_iter::box_once;
use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Cv, RunPtr, ValXs, Vars, compile, data, native, unwrap_valr};
use jaq_json::{Val, read};
use serde_json::Value;

/// What a filter must not reach: the process and its surroundings.
const WITHHELD: &[&str] = &["debug_empty", "env", "halt", "stderr_empty"];

type Data = data::JustLut<Val>;

/// Why a filter has no outputs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The text is no filter; all places that are wrong.
    Mistake(String),
    /// It met data that it cannot work with.
    Error(String),
    /// It gave too much.
    TooMuch(String),
}

/// All outputs of a filter, up to so many, with so many bytes together.
pub(crate) fn outputs(text: &str, input: &Value, most: usize, bytes: usize) -> Result<Vec<Value>, Fault> {
    let input = input.to_string();
    let input = read::parse_single(input.as_bytes()).map_err(|error| Fault::Error(error.to_string()))?;
    let arena = Arena::default();
    let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    let modules = Loader::new(defs)
        .load(&arena, File { code: text, path: () })
        .map_err(|errors| Fault::Mistake(load_mistakes(text, errors)))?;
    let funs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    let funs = funs.filter(|(name, ..)| !WITHHELD.contains(name)).chain(withheld());
    let compiled: Result<jaq_core::Filter<Data>, _> = Compiler::default().with_funs(funs).compile(modules);
    let filter = compiled.map_err(|errors| Fault::Mistake(compile_mistakes(text, errors)))?;
    let ctx = Ctx::<Data>::new(&filter.lut, Vars::new([]));
    let (mut all, mut len) = (Vec::new(), 0);
    for output in filter.id.run((ctx, input)).map(unwrap_valr) {
        let output = output.map_err(|error| Fault::Error(error.to_string()))?;
        let text = output.to_string();
        len += text.len();
        if all.len() >= most || len > bytes {
            return Err(Fault::TooMuch(format!("it gave more than {most} outputs or {bytes} bytes")));
        }
        let told = |_| Fault::Error(format!("an output is no JSON: {}", coretex_domain::names::shown(&text)));
        all.push(serde_json::from_str(&text).map_err(told)?);
    }
    Ok(all)
}

/// Stand-ins for what is withheld, so that definitions built on it can be read: they say why they do nothing.
fn withheld() -> impl Iterator<Item = native::Fun<Data>> {
    let args = |name: &str| if name == "halt" { native::v(1) } else { native::v(0) };
    WITHHELD.iter().map(move |name| native::run::<Data>((*name, args(name), refuse as RunPtr<Data>)))
}

fn refuse<'a>(_: Cv<'a, Data>) -> ValXs<'a, Val> {
    box_once(Err(jaq_core::Error::str("not to be had in a step: it reaches outside of the data").into()))
}

fn load_mistakes<P>(text: &str, errors: load::Errors<&str, P>) -> String {
    let one = |error: load::Error<&str>| match error {
        load::Error::Io(all) => {
            all.into_iter().map(|(at, _)| place(text, at, "modules are not to be had in a step")).collect()
        }
        load::Error::Lex(all) => {
            let tell = |(wanted, at): load::lex::Error<&str>| {
                place(text, at, &format!("{} expected", wanted.as_str()))
            };
            all.into_iter().map(tell).collect::<Vec<_>>()
        }
        load::Error::Parse(all) => {
            let tell = |(wanted, at): load::parse::Error<&str>| {
                place(text, at, &format!("{} expected", wanted.as_str()))
            };
            all.into_iter().map(tell).collect()
        }
    };
    errors.into_iter().flat_map(|(_, error)| one(error)).collect::<Vec<_>>().join("; ")
}

fn compile_mistakes<P>(text: &str, errors: compile::Errors<&str, P>) -> String {
    let one = |(name, what): compile::Error<&str>| {
        place(text, name, &format!("there is no {} `{name}`", what.as_str()))
    };
    errors.into_iter().flat_map(|(_, all)| all).map(one).collect::<Vec<_>>().join("; ")
}

/// A place in the text, as line and column, with what is wrong there.
fn place(text: &str, part: &str, what: &str) -> String {
    let start = load::span(text, part).start.min(text.len());
    let before = text.get(..start).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column}: {what}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn all(text: &str, input: Value) -> Result<Vec<Value>, Fault> {
        outputs(text, &input, 1_000, 100_000)
    }

    #[test]
    fn filters_give_what_jq_gives() {
        let input = json!({ "items": [{ "n": 2, "s": "b" }, { "n": 1, "s": "a" }], "k": null });
        for (text, wanted) in [
            (".items | map(.n) | add", json!([3])),
            (".items[].s", json!(["b", "a"])),
            (".items | sort_by(.n) | first.s", json!(["a"])),
            ("{total: (.items | length), k}", json!([{ "total": 2, "k": null }])),
            ("empty", json!([])),
            ("[.items[] | select(.n > 1)] | length", json!([1])),
            ("\"\\(.items[0].n) \\(.k)\"", json!(["2 null"])),
            ("reduce .items[] as $i (0; . + $i.n)", json!([3])),
            ("def twice(f): f * 2; twice(.items[0].n)", json!([4])),
            ("\"2026-01-02T03:04:05Z\" | fromdateiso8601", json!([1_767_323_045])),
            ("\"ab12\" | test(\"[0-9]+\")", json!([true])),
            ("try error(\"x\") catch .", json!(["x"])),
            (".none // 7", json!([7])),
        ] {
            assert_eq!(all(text, input.clone()).map(Value::from), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, place, what) in [
            ("", "line 1, column 1", "term"),
            (".a |", "line 1, column 5", "term"),
            (".a\n| nope(.b)", "line 2, column 3", "nope"),
            ("$x", "line 1, column 1", "variable"),
            ("[.a", "line 1", ""),
            ("import \"x\" as x; .", "line 1", "modules"),
            (".a | \"x", "line 1", ""),
        ] {
            match all(text, Value::Null) {
                Err(Fault::Mistake(told)) => {
                    assert!(told.contains(place) && told.contains(what), "{text}: {told}")
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn errors_of_the_data_and_too_much_of_it_are_told_apart() {
        assert!(matches!(all(".a.b", json!({ "a": 1 })), Err(Fault::Error(_))));
        assert!(matches!(all("error(\"no\")", Value::Null), Err(Fault::Error(told)) if told.contains("no")));
        assert!(matches!(all("repeat(1)", Value::Null), Err(Fault::TooMuch(_))));
        assert!(matches!(all("\"x\" * 200000", Value::Null), Err(Fault::TooMuch(_))));
    }

    #[test]
    fn nothing_outside_of_the_data_is_reached() {
        for text in [
            "env",
            "$ENV",
            "halt",
            "halt_error",
            "halt(3)",
            "1 | debug",
            "1 | stderr",
            "input",
            "input_filename",
        ] {
            let told = all(text, Value::Null);
            assert!(matches!(told, Err(Fault::Error(_) | Fault::Mistake(_))), "{text}: {told:?}");
        }
    }
}
