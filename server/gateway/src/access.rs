//! Who calls, and whether they may: the authorities a server believes, and what it keeps in mind about callers.
//!
//! In: the headers of a call and the connection it came on. Out: a [`Principal`], or one of three refusals: a credential
//! is wanted, it is not valid, or the address has tried too often. What a principal may do is in `coretex_domain::access`.

pub(crate) mod certificate;
pub(crate) mod failures;
pub(crate) mod floods;
pub(crate) mod guard;
pub(crate) mod jwt;
pub(crate) mod keys;
pub(crate) mod leash;
pub(crate) mod principal;
pub(crate) mod rates;
pub(crate) mod stored;
pub(crate) mod validity;

use certificate::CertificateRule;
use coretex_domain::Time;
use jwt::{Issuer, Issuers};
use keys::ApiKeys;
use principal::Principal;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Holds API keys: those of the settings, or those of the store. All answers come from memory: a call waits for them.
pub trait Authority: Send + Sync + 'static {
    /// Whom this key stands for, if it is one of ours and is valid now. That it has expired is checked elsewhere.
    ///
    /// Compare in constant time, and take as long for a wrong key as for a right one.
    fn find(&self, key: &str, now: Time) -> Result<Arc<Principal>, KeyFault>;

    /// Whether a principal that [`find`](Authority::find) gave is as it was: its key is there, and has the same roles and
    /// namespaces. Expiry is checked elsewhere. Streams of one that is not are ended.
    fn is_valid(&self, principal: &Principal, now: Time) -> bool;

    /// Counts up when a key was revoked or changed: open streams are then looked at at once.
    fn changed(&self) -> watch::Receiver<u64>;
}

/// Why a key opens nothing, for the audit; callers are not told. The later says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyFault {
    Unknown,
    /// Its public part is known, its secret is another.
    WrongSecret,
    /// It was given a new secret, and the time of this one is over.
    Rotated,
    Expired,
    Revoked,
}

/// Whom a server believes, and how often they may call.
#[derive(Clone)]
pub struct Access {
    /// Nobody is asked who they are: everybody is an anonymous admin.
    pub(crate) is_open: bool,
    pub(crate) authorities: Vec<Arc<dyn Authority>>,
    pub(crate) issuers: Arc<Issuers>,
    pub(crate) certificates: Arc<[CertificateRule]>,
    /// Calls one identity may make per second. `None`: as many as it likes.
    pub calls_per_second: Option<u32>,
    /// Wrong credentials in a minute after which an address has to wait for one. 0: any number.
    pub failed_logins_max: u32,
    /// How often open streams are looked at again.
    pub recheck_every: Duration,
}

// === impl Access ===

impl Access {
    /// Nobody is asked. For loopback only: the binary sees to that.
    pub fn open() -> Access {
        Access { is_open: true, ..Access::closed() }
    }

    /// Nobody may call, until somebody is added who says who may.
    pub fn closed() -> Access {
        Access {
            is_open: false,
            authorities: Vec::new(),
            issuers: Arc::default(),
            certificates: Arc::default(),
            calls_per_second: None,
            failed_logins_max: 10,
            recheck_every: Duration::from_secs(60),
        }
    }

    /// Believes these keys.
    #[must_use]
    pub fn keys(self, keys: ApiKeys) -> Access {
        self.authority(Arc::new(keys))
    }

    /// Believes whoever this authority knows, besides those believed before.
    #[must_use]
    pub fn authority(mut self, authority: Arc<dyn Authority>) -> Access {
        self.authorities.push(authority);
        self
    }

    /// Believes tokens of these issuers.
    #[must_use]
    pub fn issuers(mut self, issuers: Vec<Issuer>) -> Access {
        self.issuers = Arc::new(Issuers::new(issuers));
        self
    }

    /// Believes client certificates that one of these rules names.
    #[must_use]
    pub fn certificates(mut self, rules: Vec<CertificateRule>) -> Access {
        self.certificates = rules.into();
        self
    }
}

impl Access {
    /// Whether a name stands for callers that are not known by keys: one name must not be two identities.
    pub(crate) fn is_name_of_others(&self, name: &str) -> bool {
        self.issuers.names().any(|issuer| issuer == name)
            || self.certificates.iter().any(|rule| rule.name == name)
    }
}

impl Default for Access {
    fn default() -> Access {
        Access::open()
    }
}
