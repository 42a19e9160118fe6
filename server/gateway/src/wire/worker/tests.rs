use super::*;

fn topic(name: &str, lane: &str) -> pb::TopicRegistration {
    pb::TopicRegistration { name: name.into(), lane: lane.into(), ..pb::TopicRegistration::default() }
}

fn lane_of(id: &str, slots: u32, topics: &[&str]) -> pb::LaneRegistration {
    let topics = topics.iter().map(ToString::to_string).collect();
    pb::LaneRegistration { lane_id: id.into(), slots, topics, ..pb::LaneRegistration::default() }
}

fn read(given: pb::Hello) -> Result<Hello, Refusal> {
    hello(given, Namespace::new("default"), "".into())
}

#[test]
fn topics_find_their_lanes() {
    let given = pb::Hello {
        topics: vec![topic("a", ""), topic("b", ""), topic("c", "two")],
        lanes: vec![lane_of("one", 4, &[]), lane_of("two", 2, &["b"])],
        ..pb::Hello::default()
    };
    let lanes = read(given).expect("a registration").lanes;
    assert_eq!(lanes[0].topics.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a"]);
    assert_eq!(lanes[1].topics.iter().map(ToString::to_string).collect::<Vec<_>>(), ["b", "c"]);
    let plain = read(pb::Hello { topics: vec![topic("a", "")], ..pb::Hello::default() }).expect("one topic");
    assert_eq!((&*plain.lanes[0].lane_id, plain.lanes[0].slots, &*plain.pool), ("default", 1, "default"));
}

#[test]
fn bad_registrations_name_every_fault() {
    let cases: Vec<(pb::Hello, &str)> = vec![
        (pb::Hello::default(), "hello.topics"),
        (pb::Hello { topics: vec![topic("A b", "")], ..pb::Hello::default() }, "hello.topics[0].name"),
        (pb::Hello { topics: vec![topic("a", "nope")], ..pb::Hello::default() }, "hello.topics[0].lane"),
        (
            pb::Hello {
                topics: vec![topic("a", "")],
                lanes: vec![lane_of("x", 0, &[])],
                ..pb::Hello::default()
            },
            "hello.lanes[0].slots",
        ),
        (
            pb::Hello {
                topics: vec![topic("a", "")],
                lanes: vec![lane_of("x", 1_000_000_000, &[])],
                ..pb::Hello::default()
            },
            "hello.lanes[0].slots",
        ),
        (
            pb::Hello {
                topics: vec![topic("a", "")],
                lanes: vec![lane_of("x", 1, &[]); 65],
                ..pb::Hello::default()
            },
            "hello.lanes",
        ),
        (pb::Hello { topics: vec![topic("a", ""); 1_025], ..pb::Hello::default() }, "hello.topics"),
        (
            pb::Hello {
                topics: vec![topic("a", "")],
                session_grace: Some(coretex_contract::Duration { seconds: 90_000, nanos: 0 }),
                ..pb::Hello::default()
            },
            "hello.session_grace",
        ),
        (
            pb::Hello { worker_id: "a b".into(), topics: vec![topic("a", "")], ..pb::Hello::default() },
            "hello.worker_id",
        ),
    ];
    for (given, field) in cases {
        let refusal = read(given).expect_err(field);
        assert!(refusal.violations.iter().any(|v| v.field == field), "{field}: {:?}", refusal.violations);
    }
}

#[test]
fn versions_must_overlap() {
    let hello = |min, max| pb::Hello { protocol_min: min, protocol_max: max, ..pb::Hello::default() };
    assert_eq!(version(&hello(1, 3)), Ok(1));
    assert_eq!(version(&hello(0, 0)), Ok(1));
    let refusal = version(&hello(9, 9)).expect_err("too new");
    assert_eq!(refusal.reason, Reason::ProtocolVersion);
    assert!(refusal.message.contains("protocol 1..1 supported, got 9..9"));
}
