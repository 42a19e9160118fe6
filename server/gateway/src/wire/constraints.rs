//! Constraints of a decision to the wire, with the words of a bundle.

use coretex_contract::value::Kind;
use coretex_contract::{ListValue, Struct, Value};
use coretex_domain::policy::{Amount, Constraints, Value as Limit};

/// The object a rule would state them with. Lengths of time and amounts are texts, so that no digit is lost.
pub(crate) fn write(constraints: &Constraints) -> Struct {
    let mut out = Struct::default();
    for (group, name, value) in constraints.lines() {
        let value = Value { kind: Some(kind(value)) };
        if group.is_empty() {
            out.fields.insert(name.to_owned(), value);
            continue;
        }
        let empty = || Value { kind: Some(Kind::StructValue(Struct::default())) };
        let entry = out.fields.entry(group.to_owned()).or_insert_with(empty);
        if let Some(Kind::StructValue(group)) = &mut entry.kind {
            group.fields.insert(name.to_owned(), value);
        }
    }
    out
}

fn kind(value: Limit<'_>) -> Kind {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    match value {
        Limit::Span(span) => Kind::StringValue(span.to_string()),
        // At most 10^12: a double holds it whole.
        Limit::Count(count) => Kind::NumberValue(count as f64),
        Limit::Micros(micros) => Kind::StringValue(Amount(micros).to_string()),
        Limit::Flag(flag) => Kind::BoolValue(flag),
        Limit::Texts(texts) => {
            Kind::ListValue(ListValue { values: texts.iter().map(|one| text(one)).collect() })
        }
        Limit::Word(word) => Kind::StringValue(word.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coretex_domain::Span;
    use coretex_domain::policy::{Budgets, Redaction, Toolchain};

    #[test]
    fn constraints_are_written_with_the_words_of_a_bundle() {
        let budgets = Budgets {
            max_runtime: Some(Span::mins(5)),
            max_tokens: Some(1_000_000_000_000),
            max_cost_micros: Some(1_500_000),
            ..Budgets::default()
        };
        let toolchain = Toolchain { allowed_tools: Some(Vec::new()), allowed_commands: None };
        let redaction = Some(Redaction::Strict);
        let written = write(&Constraints { budgets, toolchain, redaction, ..Constraints::default() });
        let bytes = crate::wire::json::canonical_object(&written).expect("an object");
        assert_eq!(
            String::from_utf8_lossy(&bytes),
            r#"{"budgets":{"max_cost":"1.500000","max_runtime":"5m","max_tokens":1000000000000},"redaction":"strict","toolchain":{"allowed_tools":[]}}"#
        );
    }
}
