//! The simulator from the command line.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its caller")]

use coretex_simulation::{Cover, Narrow, Options, Planted, evidence, run, shrink};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const USAGE: &str = "coretex-sim [--seeds N] [--start N] [--seed N] [--mutant NAME] [--mutants] [--trace] [--jobs N]
            [--clients N] [--workers N] [--until SECONDS] [--without FAULT,FAULT] [--budget SEEDS] [--no-shrink]";

/// Failures after which a batch stops.
const FAILURES_MAX: usize = 3;
/// Seeds that are run twice to prove that a run is a function of its seed.
const TWICE: u64 = 50;
/// Seeds a planted fault may survive.
const MUTANT_SEEDS: u64 = 400;

#[derive(Default)]
struct Args {
    seeds: u64,
    start: u64,
    seed: Option<u64>,
    planted: Option<Planted>,
    all_planted: bool,
    trace: bool,
    jobs: usize,
    narrow: Narrow,
    budget: u64,
    no_shrink: bool,
}

fn main() -> ExitCode {
    let args = match parse() {
        Ok(args) => args,
        Err(what) => {
            eprintln!("{what}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    // A planted fault may panic; the report names it, the noise helps nobody.
    if args.seed.is_none() {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let is_good = match (args.seed, args.all_planted) {
        (Some(seed), _) => one(&args, seed),
        (None, true) => mutants(&args),
        (None, false) => many(&args),
    };
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse() -> Result<Args, String> {
    let mut args = Args { seeds: 2_000, start: 1, jobs: 2, budget: MUTANT_SEEDS, ..Args::default() };
    let mut words = std::env::args().skip(1);
    let mut narrow = Vec::new();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("`{text}` is not a number"));
        match word.as_str() {
            "--seeds" => args.seeds = number(value()?)?,
            "--start" => args.start = number(value()?)?,
            "--seed" => args.seed = Some(number(value()?)?),
            "--jobs" => args.jobs = number(value()?)? as usize,
            "--budget" => args.budget = number(value()?)?,
            "--mutant" => {
                let name = value()?;
                args.planted =
                    Some(Planted::from_name(&name).ok_or_else(|| format!("no planted fault `{name}`"))?);
            }
            "--mutants" => args.all_planted = true,
            "--trace" => args.trace = true,
            "--no-shrink" => args.no_shrink = true,
            "--clients" | "--workers" | "--until" | "--without" => {
                narrow.push(format!("{}={}", &word[2..], value()?));
            }
            other => return Err(format!("unknown option `{other}`")),
        }
    }
    args.narrow = Narrow::parse(narrow.iter().map(String::as_str))?;
    Ok(args)
}

/// Replays one seed.
fn one(args: &Args, seed: u64) -> bool {
    let mut options = Options::of(seed).narrowed(&args.narrow);
    options.planted = args.planted;
    options.trace = args.trace;
    println!("{options}");
    let outcome = run::run(options);
    for line in &outcome.trace {
        println!("{line}");
    }
    println!("events={} hash={:016x}", outcome.cover.events, outcome.hash);
    match &outcome.violation {
        Some(violation) => println!("VIOLATION {violation}"),
        None => println!("ok"),
    }
    outcome.violation.is_none()
}

fn many(args: &Args) -> bool {
    let begun = Instant::now();
    let mut seeds = corpus();
    let kept = seeds.len();
    seeds.extend((args.start..args.start + args.seeds).map(|seed| (seed, args.narrow.clone())));
    let batch = run::batch(&seeds, args.planted, args.jobs, FAILURES_MAX);
    for failure in &batch.failures {
        report(failure, args);
    }
    let mut is_good = batch.failures.is_empty();
    is_good &= is_deterministic(args);
    println!("{}", evidence::block(&batch.cover, begun.elapsed(), batch.failures.len()));
    println!("corpus: {kept} runs first");
    for gate in evidence::gates(&batch.cover) {
        println!("GATE {gate}");
        is_good = false;
    }
    is_good
}

fn report(failure: &run::Failure, args: &Args) {
    println!("VIOLATION seed={} {}\n  {}", failure.seed, failure.narrow, failure.violation);
    let mut narrow = failure.narrow.clone();
    if !args.no_shrink {
        let (smaller, why) = shrink::shrink(failure.seed, &narrow, args.planted, Duration::from_secs(20));
        println!("SMALLEST seed={} {smaller}\n  {why}", failure.seed);
        narrow = smaller;
    }
    let mut options = Options::of(failure.seed).narrowed(&narrow);
    options.planted = args.planted;
    options.trace = true;
    println!("{options}");
    let outcome = run::caught(options);
    let skip = outcome.trace.len().saturating_sub(40);
    outcome.trace.iter().skip(skip).for_each(|line| println!("    {line}"));
    let flags: Vec<String> = narrow
        .to_string()
        .split_whitespace()
        .filter_map(|word| word.split_once('=').map(|(name, value)| format!("--{name} {value}")))
        .collect();
    println!("replay: coretex-sim --seed {} {} --trace", failure.seed, flags.join(" "));
}

/// The same seed gives the same events, twice over.
fn is_deterministic(args: &Args) -> bool {
    let twice = TWICE.min(args.seeds);
    let hash = |seed: u64| run::caught(Options::of(seed)).hash;
    let differing: Vec<u64> =
        (args.start..args.start + twice).filter(|seed| hash(*seed) != hash(*seed)).collect();
    println!("sim.deterministic = {} of {twice} seeds equal", twice - differing.len() as u64);
    if !differing.is_empty() {
        println!("VIOLATION runs differ for seeds {differing:?}");
    }
    differing.is_empty()
}

/// Runs that failed once: never again.
fn corpus() -> Vec<(u64, Narrow)> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut files: Vec<_> =
        std::fs::read_dir(here).into_iter().flatten().flatten().map(|f| f.path()).collect();
    files.sort();
    let mut runs = Vec::new();
    for file in files.iter().filter(|f| f.extension().is_some_and(|e| e == "txt")) {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let mut words = line.split_whitespace();
            let seed = words.next().and_then(|w| w.strip_prefix("seed=")).and_then(|n| n.parse().ok());
            match (seed, Narrow::parse(words)) {
                (Some(seed), Ok(narrow)) => runs.push((seed, narrow)),
                _ => println!("{}: cannot read `{line}`", file.display()),
            }
        }
    }
    runs
}

/// Plants each fault in turn and runs seeds until it is noticed.
fn mutants(args: &Args) -> bool {
    if !cfg!(feature = "mutants") {
        eprintln!("this build has no mutants: build with --features mutants");
        return false;
    }
    let begun = Instant::now();
    let seeds: Vec<(u64, Narrow)> =
        (args.start..args.start + args.budget).map(|s| (s, args.narrow.clone())).collect();
    let (mut caught, mut total) = (0, 0);
    println!("--- evidence: planted faults ---");
    for planted in Planted::all() {
        let batch = run::batch(&seeds, Some(planted), args.jobs, 1);
        total += 1;
        let figures: &Cover = &batch.cover;
        match batch.failures.first() {
            Some(failure) => {
                caught += 1;
                let how: String = failure.violation.chars().take(100).collect();
                let how = how.replace('\n', " ");
                println!(
                    "mutant.{} = caught after {} seeds by seed {}: {how}",
                    planted.name(),
                    figures.seeds,
                    failure.seed
                );
            }
            None => println!(
                "mutant.{} = SURVIVED {} seeds ({})",
                planted.name(),
                figures.seeds,
                planted.meaning()
            ),
        }
    }
    println!("mutants.caught = {caught}/{total}");
    println!("mutants.wall_seconds = {:.1}", begun.elapsed().as_secs_f64());
    println!("--- end ---");
    caught == total
}
