//! Built-in steps: which are done by default, and whom `http` may call.

use super::*;
use coretex_steps::STEPS;

fn enabled(settings: &Settings) -> Vec<&str> {
    settings.steps.enabled.iter().map(String::as_str).collect()
}

#[test]
fn a_server_for_others_calls_nobody_unless_it_is_told_to() {
    assert_eq!(enabled(&dev(None, &[], &[]).expect("defaults")), STEPS);
    let mut layers = Layers::read(&Sources::default());
    let steps = Steps::build(Profile::Production, &mut layers).expect("defaults");
    assert_eq!(
        steps.enabled.iter().map(String::as_str).collect::<Vec<_>>(),
        ["emit", "log", "set", "transform", "validate"]
    );
    assert_eq!((steps.slots, steps.http_allow.len()), (64, 0));
    let sources = Sources { flags: vec![("steps.enabled".into(), "http,set".into())], ..Sources::default() };
    let steps = Steps::build(Profile::Production, &mut Layers::read(&sources)).expect("named");
    assert!(steps.enabled.contains("http") && steps.enabled.len() == 2);
}

#[test]
fn lists_are_read_from_files_variables_and_flags() {
    let file = "steps:\n  enabled: [http]\n  slots: 3\n  http:\n    allow: [api.internal:8443, 10.0.0.0/8]\n";
    let settings = dev(Some(file), &[], &[]).expect("settings");
    assert_eq!((enabled(&settings), settings.steps.slots), (vec!["http"], 3));
    assert_eq!(settings.steps.http_allow.len(), 2);
    let env = [("CORETEX_STEPS_ENABLED", "set, log"), ("CORETEX_STEPS_HTTP_ALLOW", "localhost,:8080,::1")];
    let settings = dev(Some(file), &env, &[]).expect("settings");
    assert_eq!(enabled(&settings), ["log", "set"]);
    assert_eq!(settings.steps.http_allow.len(), 3);
    assert_eq!(enabled(&dev(Some("steps:\n  enabled: []\n"), &[], &[]).expect("none")), [""; 0]);
}

#[test]
fn what_cannot_be_used_is_refused_with_its_place() {
    for (file, place, told) in [
        ("steps:\n  enabled: [htttp]\n", "coretex.yaml:2:steps.enabled", "did you mean"),
        ("steps:\n  slots: 0\n", "coretex.yaml:2:steps.slots", "from 1 to 1024"),
        ("steps:\n  slots: 1025\n", "coretex.yaml:2:steps.slots", "from 1 to 1024"),
        ("steps:\n  http:\n    allow: [http://x]\n", "coretex.yaml:3:steps.http.allow", "ADDRESS/BITS"),
        ("steps:\n  http:\n    allow: [10.0.0.1/8]\n", "coretex.yaml:3:steps.http.allow", "bits after"),
        ("steps:\n  http:\n    alow: [x]\n", "coretex.yaml:3:steps.http.alow", "steps.http.allow"),
        ("steps:\n  http:\n    ca: /no/such/file\n", "coretex.yaml:3:steps.http.ca", "cannot read"),
        ("steps:\n  http:\n    ca: /dev/null\n", "coretex.yaml:3:steps.http.ca", "no certificate"),
        ("steps:\n  http: [x]\n", "coretex.yaml:2:steps.http", "there is no setting"),
    ] {
        let lines = refused(Profile::Dev, Some(file), &[], &[]);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains(place) && lines[0].contains(told), "{place}, {told}: {lines:?}");
    }
}
