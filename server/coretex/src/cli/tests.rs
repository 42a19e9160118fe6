//! The command line as a whole.

use super::*;

fn args(line: &str) -> Vec<OsString> {
    line.split_whitespace().map(OsString::from).collect()
}

#[test]
fn the_command_line_is_well_formed() {
    Cli::command().debug_assert();
}

#[test]
fn commands_have_the_names_of_the_contract() {
    for line in [
        "coretex dev --memory",
        "coretex server --config coretex.yaml --explain",
        "coretex demo src",
        "coretex job submit --topic job.echo --data {} --wait",
        "coretex job submit --topic t --in 5m --max-attempts 3 --timeout 90s --label a=b --requires gpu",
        "coretex job list --state FAILED -o json",
        "coretex job watch a b",
        "coretex job history a --addr http://x:1",
        "coretex --namespace n job count",
        "coretex dlq list --topic t --state FAILED --oldest-first -o json",
        "coretex dlq groups --limit 10",
        "coretex dlq retry a --data {}",
        "coretex dlq retry a b --stop-on-repeat",
        "coretex dlq retry --topic t --canary --rate 50 --stop-on-repeat",
        "coretex dlq retry --all --preview",
        "coretex dlq delete a b",
        "coretex dlq purge --topic t --older-than 7d --yes",
        "coretex approval list --mine --topic t -o json",
        "coretex approval list --state approved --job j",
        "coretex approval get apr_1_j",
        "coretex approval approve apr_1_j --comment fine --data {}",
        "coretex approval reject apr_1_j --comment no",
        "coretex approval delegate apr_1_j --to bob",
        "coretex schedule apply a.yaml b.yaml",
        "coretex schedule apply - --id a --revision 3",
        "coretex schedule list --filter paused=true -o json",
        "coretex schedule preview a -n 100 --after 2026-01-01T00:00:00Z",
        "coretex schedule preview --file a.yaml",
        "coretex schedule pause a --reason r",
        "coretex schedule trigger a --request-id x",
        "coretex schedule backfill a --from 2026-01-01T00:00:00Z --sequential",
        "coretex schedule fires --limit 5 --oldest-first",
        "coretex schedule delete a --revision 2",
        "coretex topic update t --rate 100/1s",
        "coretex topic pause t --reason r",
        "coretex worker run --topic t --slots 4 --echo",
        "coretex worker run --topic t --topic u --exec cat -n",
        "coretex worker drain w --mode handover",
        "coretex admin fsck ./data",
        "coretex admin restore a b",
        "coretex bench submit-stream --batch 64 --in-flight 4096 --seconds 1",
        "coretex run start greet --input {} --wait --label a=b --key k",
        "coretex run start greet --version 3 --id run_nightly-7 --watch",
        "coretex run start greet --signal go --signal-data {} -o json",
        "coretex run get run_a",
        "coretex run list --state FAILED --workflow greet --oldest-first -o yaml",
        "coretex run watch run_a --after 7 --plain",
        "coretex run wait run_a --timeout 5m",
        "coretex run history run_a",
        "coretex run cancel run_a --reason late",
        "coretex run signal run_a go --data {} --signal-id s-1",
        "coretex run rerun run_a --from send --input {}",
        "coretex run explain run_a -o json",
        "coretex completion bash",
        "coretex version",
    ] {
        Cli::try_parse_from(args(line)).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn wrong_command_lines_are_usage_errors() {
    for line in [
        "coretex job submit --topic t --timeout abc",
        "coretex job submit --topic t --in 5m --run-at 2027-01-01T00:00:00Z",
        "coretex job submit",
        "coretex job list --limit 0",
        "coretex frobnicate",
        "coretex job get a --unknown",
        "coretex worker run --topic t",
        "coretex worker run --topic t --echo --exec cat",
        "coretex worker run --topic t --slots 0 --echo",
        "coretex job get a -o xml",
        "coretex dlq retry",
        "coretex dlq retry a --all",
        "coretex dlq retry a b --data {}",
        "coretex dlq retry a --data {} --canary",
        "coretex dlq retry --all --rate 0",
        "coretex dlq retry --all --rate 10001",
        "coretex dlq delete",
        "coretex dlq purge --yes",
        "coretex dlq purge --topic t",
        "coretex dlq purge --all --topic t --yes",
        "coretex dlq purge --all --yes --preview",
        "coretex dlq groups --limit 0",
        "coretex run start",
        "coretex run start greet --wait --watch",
        "coretex run start greet --key k --id run_a",
        "coretex run start greet --wait-timeout 5s",
        "coretex run start greet --signal-data {}",
        "coretex run signal run_a",
        "coretex run rerun run_a",
        "coretex run list --limit 0",
        "coretex approval approve",
        "coretex approval approve apr_1_j --content-type text/plain",
        "coretex approval delegate apr_1_j",
        "coretex approval list --state PENDING --any-state",
    ] {
        assert_eq!(main(args(line)), USAGE, "{line}");
    }
}

#[test]
fn client_options_are_refused_where_they_mean_nothing() {
    assert_eq!(main(args("coretex version --addr http://localhost:1")), USAGE);
}

#[test]
fn the_format_is_known_before_anything_else() {
    for (line, format) in [
        ("coretex job get a -o json --bad", Format::Json),
        ("coretex job get a -ojson", Format::Json),
        ("coretex job get a --output=yaml", Format::Yaml),
        ("coretex job get a", Format::Table),
        ("coretex worker run --exec cat -- -o json", Format::Table),
    ] {
        assert_eq!(wanted_format(&args(line)), format, "{line}");
    }
}
