//! The chain of audit records: each holds the hash of the one before it, so that none can be changed, taken out or put in
//! without all later ones telling.

use coretex_domain::Time;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What somebody did, or was refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// From 1, without gaps.
    pub sequence: u64,
    pub time_ms: u64,
    /// The identity; empty when nobody was asked to log in.
    pub actor: Arc<str>,
    /// How it is known: `anonymous`, `key`, `token`, `certificate`, `system`.
    pub actor_kind: Arc<str>,
    pub namespace: Arc<str>,
    /// Method of the contract, as `Service/Method`.
    pub method: Arc<str>,
    /// What it was done to, for example a job id; empty where the call names nothing.
    pub subject: Arc<str>,
    /// `OK`, or the gRPC code of the refusal.
    pub outcome: Arc<str>,
    /// Reason of a refusal.
    pub reason: Arc<str>,
    pub request_id: Arc<str>,
    /// Network address of the caller.
    pub address: Arc<str>,
    /// What else there is to say, in words.
    pub detail: Arc<str>,
    /// Of the record before; 64 zeroes for the first.
    pub previous: Arc<str>,
    /// Of this record with everything above.
    pub hash: Arc<str>,
}

impl Record {
    /// What others said in it.
    pub(super) fn texts(&mut self) -> [&mut Arc<str>; 7] {
        let Record { actor, namespace, method, subject, request_id, reason, detail, .. } = self;
        [actor, namespace, method, subject, request_id, reason, detail]
    }
}

/// Where a chain ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub sequence: u64,
    pub hash: Arc<str>,
}

/// What is wrong with a chain, at the first place where something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    pub sequence: u64,
    pub what: String,
}

/// Walks a chain record by record, oldest first.
#[derive(Debug, Default)]
pub struct Verifier {
    last: Option<End>,
    pub checked: u64,
    pub first: u64,
}

// === impl End ===

impl Default for End {
    fn default() -> End {
        End { sequence: 0, hash: "0".repeat(64).into() }
    }
}

// === impl Record ===

impl Record {
    pub fn time(&self) -> Time {
        Time(self.time_ms)
    }

    /// BLAKE3 over every field but the hash itself, each with its length before it.
    fn digest(&self) -> String {
        let mut hash = blake3::Hasher::new_derive_key("coretex 2026 audit chain");
        hash.update(&self.sequence.to_le_bytes()).update(&self.time_ms.to_le_bytes());
        for text in [
            &self.actor,
            &self.actor_kind,
            &self.namespace,
            &self.method,
            &self.subject,
            &self.outcome,
            &self.reason,
            &self.request_id,
            &self.address,
            &self.detail,
            &self.previous,
        ] {
            hash.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        }
        hash.finalize().to_hex().to_string()
    }

    /// Makes it the next of a chain.
    pub(super) fn link(&mut self, end: &mut End) {
        self.sequence = end.sequence + 1;
        self.previous = end.hash.clone();
        self.hash = self.digest().into();
        *end = End { sequence: self.sequence, hash: self.hash.clone() };
    }
}

// === impl Verifier ===

impl Verifier {
    /// The next record. The first one seen is trusted to follow what retention has removed.
    pub fn see(&mut self, record: &Record) -> Result<(), Broken> {
        let broken = |what: String| Err(Broken { sequence: record.sequence, what });
        if record.digest() != *record.hash {
            return broken("it is not what it was when it was written".into());
        }
        match &self.last {
            None => self.first = record.sequence,
            Some(last) if record.sequence != last.sequence + 1 => {
                return broken(format!("it follows record {}; those between are missing", last.sequence));
            }
            Some(last) if record.previous != last.hash => {
                return broken("it does not follow the record before it".into());
            }
            Some(_) => {}
        }
        if record.sequence == 1 && record.previous != End::default().hash {
            return broken("it is the first and names one before it".into());
        }
        self.last = Some(End { sequence: record.sequence, hash: record.hash.clone() });
        self.checked += 1;
        Ok(())
    }

    /// After the last record: it must be the one the chain is known to end with.
    pub fn finish(&self, end: &End) -> Result<(), Broken> {
        let last = self.last.clone().unwrap_or_default();
        // All records may have been removed by retention.
        if last == *end || (self.last.is_none() && end.sequence > 0) {
            return Ok(());
        }
        let what = format!("the chain ends with record {}, which is not there or another one", end.sequence);
        Err(Broken { sequence: last.sequence, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(count: u64) -> (Vec<Record>, End) {
        let mut end = End::default();
        let mut records = Vec::new();
        for n in 0..count {
            let mut record =
                Record { time_ms: n, actor: "a".into(), method: "S/M".into(), ..Record::default() };
            record.link(&mut end);
            records.push(record);
        }
        (records, end)
    }

    fn verify(records: &[Record], end: &End) -> Result<u64, Broken> {
        let mut verifier = Verifier::default();
        records.iter().try_for_each(|record| verifier.see(record))?;
        verifier.finish(end).map(|()| verifier.checked)
    }

    #[test]
    fn a_whole_chain_is_sound_from_any_start() {
        let (records, end) = chain(20);
        assert_eq!(verify(&records, &end), Ok(20));
        assert_eq!(verify(&records[7..], &end), Ok(13));
        assert_eq!(verify(&[], &End::default()), Ok(0));
    }

    #[test]
    fn every_changed_byte_is_told() {
        let (records, end) = chain(5);
        for at in 0..records.len() {
            let text = serde_json::to_vec(&records[at]).expect("JSON");
            for byte in 0..text.len() {
                for flip in [1_u8, 2, 32] {
                    let mut changed = text.clone();
                    changed[byte] ^= flip;
                    // Many flips leave no JSON, or another key: those cannot go unseen either.
                    let Ok(read) = serde_json::from_slice::<Record>(&changed) else { continue };
                    let mut all = records.clone();
                    if read == all[at] {
                        continue;
                    }
                    all[at] = read;
                    let told = verify(&all, &end).expect_err("a changed record is told");
                    assert!(told.sequence > 0 || told.what.contains("not what it was"), "{told:?}");
                }
            }
        }
    }

    #[test]
    fn records_taken_out_put_in_or_cut_off_are_told() {
        let (records, end) = chain(6);
        for gone in 1..5 {
            let mut less = records.clone();
            less.remove(gone);
            assert!(verify(&less, &end).is_err(), "without {gone}");
        }
        assert!(verify(&records[..5], &end).is_err(), "the last is missing");
        let mut swapped = records.clone();
        swapped.swap(2, 3);
        assert!(verify(&swapped, &end).is_err());
        let (mut other, _) = chain(9);
        other[2].actor = "b".into();
        let mut end_of_two = End { sequence: 2, hash: other[1].hash.clone() };
        other[2].link(&mut end_of_two);
        let mut forged = records.clone();
        forged[2] = other[2].clone();
        assert_eq!(verify(&forged, &end).expect_err("the next one tells").sequence, 4);
    }
}
