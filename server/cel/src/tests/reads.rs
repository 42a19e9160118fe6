//! Which names an expression reads.

use super::parse;
use crate::Key;

fn reads(text: &str) -> Vec<(String, usize)> {
    let found = parse(text).unwrap().reads();
    found.into_iter().map(|read| (read.to_string(), read.at)).collect()
}

#[test]
fn every_name_is_told_with_its_place_and_the_constant_part_of_its_path() {
    let cases: [(&str, &[(&str, usize)]); 12] = [
        ("config.a.output.x", &[("config.a.output.x", 0)]),
        ("1 + config['sign-off'].output[0]", &[("config[\"sign-off\"].output[0]", 4)]),
        ("config[\"a\"].b == job.topic", &[("config.a.b", 0), ("job.topic", 17)]),
        ("config[job.topic].x", &[("config[…]", 0), ("job.topic", 7)]),
        ("config.a[job.size - 1].x", &[("config.a[…]", 0), ("job.size", 9)]),
        ("has(config.a.b) || has(job.topic)", &[("config.a.b", 4)]),
        ("config.list.exists(x, x.y == config.z)", &[("config.list", 0), ("config.z", 29)]),
        ("config.map(config2, config2.a)", &[("config", 0)]),
        ("(true ? config.a : config.b).c", &[("config.a", 8), ("config.b", 19)]),
        ("[config.a][0].b + {'k': config.c}.k", &[("config.a", 1), ("config.c", 24)]),
        (
            "job.payload.a.startsWith(job.labels.x) && !job.payload.b.matches('x')",
            &[("job.payload.a", 0), ("job.labels.x", 25), ("job.payload.b", 43)],
        ),
        ("size([1, 2])", &[]),
    ];
    for (text, expected) in cases {
        let expected: Vec<_> = expected.iter().map(|(path, at)| ((*path).to_owned(), *at)).collect();
        assert_eq!(reads(text), expected, "{text}");
    }
}

#[test]
fn a_read_names_its_number_and_its_keys() {
    let found = parse("job.payload.items[2]['a b'][job.topic].rest").unwrap().reads();
    let first = &found[0];
    assert_eq!((first.number, first.root, first.field), (3, "job", Some("payload")));
    assert_eq!(first.path, [Key::Field("items".into()), Key::Index(2), Key::Field("a b".into())]);
    assert!(first.is_computed);
    assert!(!found[1].is_computed);
}
