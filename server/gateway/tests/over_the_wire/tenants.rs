//! Tenants are apart: whatever one names of the other's is as if it had never been, by every method of the contract.
//!
//! Requests are filled by reflection: every field that can name something is given ids of the other tenant, or ids that
//! never were. Both must be answered alike, and nothing of what the other tenant keeps may come back.

mod things;

use crate::access::keys;
use crate::access::roles::methods;
use crate::running_server::{Server, reason};
use crate::transport::Raw;
use bytes::Bytes;
use coretex_contract::FILE_DESCRIPTOR_SET;
use coretex_domain::access::Role;
use coretex_gateway::{Access, GatewaySettings};
use http::uri::PathAndQuery;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _, Value,
};
use std::collections::BTreeMap;
use things::{CANARY, Things};
use tonic::Status;

/// Calls with ids of the other tenant.
const SWAPS: usize = 5_000;

/// A number out of a seed (splitmix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).unwrap_or(0)
    }
}

/// What may stand in a field of this name: the other's, and what never was.
fn pair<'t>(field: &str, theirs: &'t Things, never: &'t Things, chance: &mut Chance) -> Option<[&'t str; 2]> {
    let at = chance.below(usize::MAX);
    let pick = |of: fn(&Things) -> &Vec<String>| {
        let (there, nowhere) = (of(theirs), of(never));
        let place = at % there.len().min(nowhere.len()).max(1);
        Some([there.get(place)?.as_str(), nowhere.get(place)?.as_str()])
    };
    match field {
        "job_id" | "job_ids" | "parent_job_id" => pick(|t| &t.jobs),
        "dead_letter_id" | "dead_letter_ids" => pick(|t| &t.letters),
        "approval_id" => pick(|t| &t.approvals),
        "worker_id" => pick(|t| &t.workers),
        "session_id" => pick(|t| &t.sessions),
        "lease_token" => pick(|t| &t.leases),
        "page_token" | "resume_token" => pick(|t| &t.tokens),
        "filter" => pick(|t| &t.filters),
        "fingerprint" => pick(|t| &t.fingerprints),
        "request_id" => pick(|t| &t.requests),
        "idempotency_key" => pick(|t| &t.keys),
        "key_id" => pick(|t| &t.api_keys),
        "workflow" => pick(|t| &t.workflows),
        "run_id" => pick(|t| &t.runs),
        _ => None,
    }
}

/// Two requests that differ in nothing but whom they name. None if the method names nobody.
fn requests(
    input: &MessageDescriptor,
    theirs: &Things,
    never: &Things,
    chance: &mut Chance,
) -> Option<[DynamicMessage; 2]> {
    let mut both = [DynamicMessage::new(input.clone()), DynamicMessage::new(input.clone())];
    fill(&mut both, theirs, never, chance, 0).then_some(both)
}

fn fill(
    both: &mut [DynamicMessage; 2],
    theirs: &Things,
    never: &Things,
    chance: &mut Chance,
    depth: usize,
) -> bool {
    let mut is_named = false;
    for field in both[0].descriptor().fields() {
        let name = field.name().to_owned();
        if let Some(found) = pair(&name, theirs, never, chance) {
            // Some calls name little, some everything. A list that cannot read its filter looks at nothing.
            let is_seldom = matches!(&*name, "filter" | "page_token");
            if chance.below(4) < if is_seldom { 3 } else { 1 } {
                continue;
            }
            for (message, text) in both.iter_mut().zip(found) {
                let value = match field.kind() {
                    Kind::Bytes => Value::Bytes(bytes_of(text)),
                    _ => Value::String(text.to_owned()),
                };
                let value = if field.is_list() { Value::List(vec![value]) } else { value };
                message.set_field(&field, value);
            }
            is_named = true;
        } else if name == "timeout" {
            // Nobody waits for what never comes.
            both.iter_mut().for_each(|message| message.set_field(&field, Value::Message(at_once(&field))));
        } else if let Kind::Message(inner) = field.kind()
            && inner.package_name() == "coretex.v1"
            && depth < 3
            && !field.is_map()
        {
            let mut parts = [DynamicMessage::new(inner.clone()), DynamicMessage::new(inner)];
            if fill(&mut parts, theirs, never, chance, depth + 1) {
                is_named = true;
                for (message, part) in both.iter_mut().zip(parts) {
                    let value = Value::Message(part);
                    let value = if field.is_list() { Value::List(vec![value]) } else { value };
                    message.set_field(&field, value);
                }
            }
        } else if name == "topic" && depth > 0 || name == "topics" {
            let topic = Value::String("job.swap".into());
            let topic = if field.is_list() { Value::List(vec![topic]) } else { topic };
            both.iter_mut().for_each(|message| message.set_field(&field, topic.clone()));
        }
    }
    is_named
}

/// Characters of a name that is not text, as bytes.
fn bytes_of(text: &str) -> Bytes {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(0)).collect()
}

fn at_once(field: &FieldDescriptor) -> DynamicMessage {
    let Kind::Message(duration) = field.kind() else { panic!("{} is a duration", field.full_name()) };
    let mut span = DynamicMessage::new(duration);
    span.set_field_by_name("nanos", Value::I32(1_000_000));
    span
}

async fn ask(server: &Server, path: &str, namespace: &str, message: Bytes) -> Result<Bytes, Status> {
    let mut client = tonic::client::Grpc::new(server.channel.clone());
    client.ready().await.expect("a connection");
    let path: PathAndQuery = path.parse().expect("a path");
    let mut request = Server::with_key(message, &format!("key-{namespace}"));
    request.metadata_mut().insert("coretex-namespace", namespace.parse().expect("a value"));
    request.set_timeout(std::time::Duration::from_secs(20));
    client.unary(request, path, Raw).await.map(tonic::Response::into_inner)
}

/// What a caller can tell an answer by, with whom it named taken out.
fn told(answer: &Result<Bytes, Status>, things: &Things) -> String {
    match answer {
        Ok(_) => "OK".to_owned(),
        Err(status) => {
            let mut text = format!("{:?} {} {}", status.code(), reason(status), status.message());
            for name in things.all() {
                text = text.replace(name.as_str(), "WHO");
            }
            without_made_ids(&text)
        }
    }
}

/// Ids the server made for the caller's own things differ in any two calls.
fn without_made_ids(text: &str) -> String {
    let word = |word: &str| match word.split_once('_') {
        Some(("job" | "ses" | "run", rest)) if rest.len() >= 26 => "MADE".to_owned(),
        _ => word.to_owned(),
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

fn holds_canary(bytes: &[u8]) -> bool {
    bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes())
}

#[tokio::test]
async fn whatever_one_tenant_names_of_the_other_never_was() {
    let named: [(&str, &str, &[&str], Role); 2] =
        [("key-a", "ann", &["a"], Role::Admin), ("key-b", "bob", &["b"], Role::Admin)];
    let access = Access::closed().keys(keys(&named));
    let server =
        Server::with(GatewaySettings { access, key_pepper: Some(vec![3; 32]), ..GatewaySettings::default() })
            .await;
    let theirs = Things::make(&server, "b").await;
    let never = Things::never(&theirs);
    let before = things::snapshot(&server, "b").await;
    assert!(holds_canary(&before.concat()), "there is something to find");

    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("the contract");
    let unary: Vec<_> = pool
        .services()
        .filter(|service| service.package_name() == "coretex.v1")
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .filter(|method| !method.is_server_streaming() && !method.is_client_streaming())
        // Ends the server for both.
        .filter(|method| method.name() != "DrainNode")
        .collect();
    assert!(unary.len() >= 55 && methods().len() > unary.len(), "{}", unary.len());
    let mut chance = Chance(20_261_121);
    let (mut swaps, mut by_answer) = (0, BTreeMap::<String, usize>::new());
    while swaps < SWAPS {
        let method = &unary[chance.below(unary.len())];
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let Some(both) = requests(&method.input(), &theirs, &never, &mut chance) else { continue };
        let mut answers = Vec::new();
        for message in &both {
            answers.push(ask(&server, &path, "a", message.encode_to_vec().into()).await);
        }
        let [one, other] = [told(&answers[0], &theirs), told(&answers[1], &never)];
        assert_eq!(one, other, "{path} tells apart what is the other's and what never was (swap {swaps})");
        if let Ok(bytes) = &answers[0] {
            assert!(!holds_canary(bytes), "{path} hands out what is the other's (swap {swaps})");
        }
        if path.ends_with("/ReportJobs") {
            assert_eq!(answers[0].as_ref().ok(), answers[1].as_ref().ok(), "{path} (swap {swaps})");
        }
        *by_answer.entry(one.split(' ').next().unwrap_or_default().to_owned()).or_default() += 1;
        swaps += 1;
        if swaps % 500 == 0 {
            things::beat(&server, &theirs, "b").await;
        }
    }
    let after = things::snapshot(&server, "b").await;
    for (name, (before, after)) in things::SNAPSHOT.iter().zip(before.iter().zip(&after)) {
        assert_eq!(before, after, "{name} of the other tenant changed");
    }
    println!("{swaps} swaps over {} methods: {by_answer:?}", unary.len());
    assert!(by_answer.get("NotFound").is_some_and(|n| *n > SWAPS / 10), "{by_answer:?}");
    server.stop().await;
}
