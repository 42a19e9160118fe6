use super::*;
use crate::resource::Resource;

fn plea() -> Arc<Plea> {
    Arc::new(Plea {
        id: RunId::parse("run_nightly").unwrap(),
        namespace: Namespace::new("default"),
        workflow: "w".into(),
        version: 3,
        input: Value::Here("{\"a\":1}".into()),
        labels: vec![("team".into(), "x".into())],
        actor: "me".into(),
        fingerprint: 7,
        deadline: Some(Time(900)),
        concurrency: None,
        has_config: false,
        lineage: None,
    })
}

fn at(scope: u32, place: u32) -> At {
    At { scope, place }
}

fn opened(list: u32, size: u32) -> Event {
    Event::Opened(Opening { list, owner: None, index: None, size })
}

fn ended(at: At, state: StepState) -> Event {
    Event::Ended { at, outcome: Outcome::new(state) }
}

/// Applies events in order and returns the run with all of its history.
fn run_of(events: Vec<Event>) -> Run {
    let mut run = Run::made(plea(), Time(10));
    for (n, event) in events.into_iter().enumerate() {
        run.apply(Time(11 + n as u64), event).unwrap();
    }
    run
}

#[test]
fn a_run_goes_from_queued_to_its_end_and_is_the_fold_of_its_history() {
    let run = run_of(vec![
        Event::Began,
        opened(STEPS, 3),
        Event::Started { at: at(0, 0), work: Work::Job },
        ended(at(0, 0), StepState::Succeeded),
        Event::Started { at: at(0, 1), work: Work::Items { count: 2 } },
        Event::ItemsStarted { at: at(0, 1), count: 2 },
        Event::ItemEnded { at: at(0, 1), index: 1, outcome: Outcome::new(StepState::Succeeded) },
        Event::ItemEnded { at: at(0, 1), index: 0, outcome: Outcome::new(StepState::Failed) },
        ended(at(0, 1), StepState::Succeeded),
        Event::Started { at: at(0, 2), work: Work::Timer { due: Time(500) } },
    ]);
    assert_eq!((run.state(), run.working, run.waiting), (RunState::Waiting, 0, 1));
    assert_eq!(run.next_due(), Some(Time(500)));
    assert!(run.step(at(0, 1)).unwrap().items().unwrap().failed.has(0));
    let mut run = run;
    run.apply(Time(500), ended(at(0, 2), StepState::Succeeded)).unwrap();
    let over = Event::Over { state: RunState::Succeeded, error: None, output: Some(Value::Here("1".into())) };
    run.apply(Time(501), over).unwrap();
    assert_eq!((run.state(), run.next_due()), (RunState::Succeeded, None));
    let folded = Run::fold(run.plea.clone(), &run.history).unwrap();
    assert!(folded.stands_as(&run));
    let kept = run.to_resource();
    assert!(!kept.is_live);
    assert_eq!(Run::of_resource(&kept).unwrap(), run);
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let mut run =
        run_of(vec![Event::Began, opened(STEPS, 2), Event::Started { at: at(0, 0), work: Work::Job }]);
    let before = run.clone();
    let undo = Event::UndoStarted { at: at(0, 0), index: None };
    let over = Event::Over { state: RunState::Succeeded, error: None, output: None };
    let twice = Event::Started { at: at(0, 0), work: Work::Job };
    for event in [Event::Began, opened(STEPS, 1), undo, over, twice, ended(at(7, 0), StepState::Failed)] {
        assert!(run.apply(Time(99), event.clone()).is_err(), "{event:?}");
        assert_eq!(run, before, "{event:?}");
    }
    assert!(Run::of_resource(&Resource { body: "{}".into(), ..before.to_resource() }).is_err());
}

#[test]
fn undoing_goes_backwards_and_the_end_waits_for_it() {
    let done = |at| Event::Ended {
        at,
        outcome: Outcome { is_undoable: true, ..Outcome::new(StepState::Succeeded) },
    };
    let error = Trouble { step: "c".into(), kind: "K".into(), message: "m".into() };
    let closing = Closing { state: RunState::Failed, error: error.clone(), actor: "".into() };
    let mut run = run_of(vec![
        Event::Began,
        opened(STEPS, 3),
        Event::Started { at: at(0, 0), work: Work::Job },
        Event::Started { at: at(0, 1), work: Work::Job },
        done(at(0, 1)),
        done(at(0, 0)),
        Event::Closing(closing),
    ]);
    assert!(!run.may_begin(0));
    let over = Event::Over { state: RunState::Failed, error: None, output: None };
    assert!(
        run.apply(Time(50), Event::UndoStarted { at: at(0, 1), index: None }).is_err(),
        "it was done first"
    );
    for place in [0, 1] {
        assert!(run.apply(Time(50), over.clone()).is_err());
        run.apply(Time(50), Event::UndoStarted { at: at(0, place), index: None }).unwrap();
        let outcome = Outcome::new(StepState::Succeeded);
        run.apply(Time(51), Event::UndoEnded { at: at(0, place), index: None, outcome }).unwrap();
    }
    run.apply(Time(52), over).unwrap();
    assert_eq!((run.state(), run.error()), (RunState::Failed, Some(&error)));
}
