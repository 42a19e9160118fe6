//! Every reason not to start in production: once as it is refused, and once mended.

use super::*;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

const OTHER_KEY: &str = "ctx_aB3dE5gH_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

/// A directory with all a good server needs, and the settings that name it.
struct Site {
    directory: tempfile::TempDir,
    sources: Sources,
}

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("mode");
}

fn certificate(names: &[&str], is_old: bool) -> (String, String) {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).expect("names");
    if is_old {
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 2, 1));
    }
    let key = KeyPair::generate().expect("a key");
    (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
}

impl Site {
    fn new() -> Site {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let (cert, key) = certificate(&["localhost"], false);
        write(&at("cert"), &cert, 0o644);
        write(&at("key"), &key, 0o600);
        write(&at("ca"), &cert, 0o644);
        write(&at("keys"), &format!("ci:{KEY}::submitter\n"), 0o600);
        std::fs::create_dir(at("data")).expect("made");
        std::fs::set_permissions(at("data"), std::fs::Permissions::from_mode(0o700)).expect("mode");
        let mut site = Site { sources: Sources::default(), directory };
        for (key, name) in
            [("tls.cert", "cert"), ("tls.key", "key"), ("tls.client_ca", "ca"), ("auth.keys_file", "keys")]
        {
            site.set(key, &site.path(name));
        }
        site.set("store.url", &format!("file:{}", site.path("data")));
        site.set("listen.address", "0.0.0.0:7070");
        site.set("limits.connections_max", "100");
        site
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        write(Path::new(&self.path(name)), text, mode);
    }

    fn set(&mut self, key: &str, value: &str) {
        self.unset(key);
        self.sources.flags.push((key.to_owned(), value.to_owned()));
    }

    fn unset(&mut self, key: &str) {
        self.sources.flags.retain(|(other, _)| other != key);
    }

    /// What is said, with this site's directory left out.
    fn refused(&self) -> Vec<String> {
        let Err(refusals) = load(Profile::Production, &self.sources) else { return Vec::new() };
        let own = format!("{}/", self.directory.path().display());
        assert!(refusals.0.iter().all(|refusal| !refusal.mend.is_empty()), "every reason has a mend");
        refusals.0.iter().map(|refusal| refusal.to_string().replace(&own, "")).collect()
    }
}

/// What is wrong, how it comes to be, and what is said.
type Case = (&'static str, fn(&mut Site), &'static [&'static str]);

const CASES: &[Case] = &[
    (
        "no TLS",
        |site| ["tls.cert", "tls.key", "tls.client_ca"].iter().for_each(|key| site.unset(key)),
        &[
            "R1 command line:listen.address: 0.0.0.0:7070 is reachable from other machines and there is no TLS",
        ],
    ),
    (
        "metrics for everybody",
        |site| site.set("metrics.listen", "0.0.0.0:9090"),
        &[
            "R1 command line:metrics.listen: 0.0.0.0:9090 is reachable from other machines, and metrics have no login",
        ],
    ),
    ("nobody named", |site| site.unset("auth.keys_file"), &["R2 auth.keys_file: nothing says who may call"]),
    (
        "an ended key",
        |site| site.write("keys", &format!("ci:{KEY}::submitter:2020-01-01T00:00:00Z"), 0o600),
        &["R2 auth.keys_file: there is no usable credential"],
    ),
    (
        "no role",
        |site| site.write("keys", &format!("ops:{OTHER_KEY}::admin\nci:{KEY}"), 0o600),
        &["R2 keys:2: the key of `ci` has no role"],
    ),
    (
        "a short key",
        |site| site.write("keys", &format!("ops:{OTHER_KEY}::admin\nci:q1W2e3R4::viewer"), 0o600),
        &["R3 keys:2: the key of `ci` has 8 bytes, fewer than 32"],
    ),
    (
        "a sample",
        |site| {
            site.write(
                "keys",
                &format!("ops:{OTHER_KEY}::admin\nci:changeme-0123456789-abcdefghijkl::viewer"),
                0o600,
            )
        },
        &["R3 keys:2: the key of `ci` is a sample"],
    ),
    (
        "one key twice",
        |site| site.write("keys", &format!("a:{OTHER_KEY}::admin\nb:{OTHER_KEY}::viewer"), 0o600),
        &["R3 keys:2: the key of `b` is given twice"],
    ),
    (
        "keys for everybody to read",
        |site| site.write("keys", &format!("ci:{KEY}::submitter"), 0o644),
        &["R3 command line:auth.keys_file: keys can be read by other users of this machine"],
    ),
    (
        "a hash without its pepper",
        |site| {
            let hash = coretex_gateway::KeyHash::of(b"pepper", OTHER_KEY).expect("of our form");
            site.write("keys", &format!("ci:{KEY}::submitter\nops:{hash}::admin"), 0o600);
        },
        &["R3 keys:2: the hash of `ops` needs auth.pepper_file"],
    ),
    (
        "a short pepper",
        |site| {
            site.write("pepper", "salt", 0o600);
            site.set("auth.pepper_file", &site.path("pepper"));
        },
        &["R3 command line:auth.pepper_file: pepper has 4 bytes, fewer than 32"],
    ),
    (
        "a key for everybody to read",
        |site| {
            std::fs::set_permissions(site.path("key"), std::fs::Permissions::from_mode(0o644)).expect("mode");
        },
        &["R4 command line:tls.key: key can be read by other users of this machine"],
    ),
    (
        "an expired certificate",
        |site| {
            let (cert, key) = certificate(&["localhost"], true);
            site.write("cert", &cert, 0o644);
            site.write("key", &key, 0o600);
        },
        &["R4 command line:tls.cert: the certificate in cert has expired"],
    ),
    (
        "a missing authority",
        |site| std::fs::remove_file(site.path("ca")).expect("removed"),
        &["R4 command line:tls.client_ca: cannot read ca: No such file or directory (os error 2)"],
    ),
    (
        "an authority that is none",
        |site| site.write("ca", "nonsense", 0o644),
        &["R4 command line:tls.client_ca: ca has no certificate in it"],
    ),
    (
        "no login",
        |site| site.set("auth.required", "false"),
        &["R5 command line:auth.required: `false` would let everybody in"],
    ),
    (
        "memory",
        |site| site.set("store.url", "memory:"),
        &["R6 command line:store.url: a memory store forgets every job when the process ends"],
    ),
    (
        "a yes too early",
        |site| site.set("store.ack", "relaxed"),
        &[
            "R6 command line:store.ack: `relaxed` says yes before a job is on stable storage; a loss of power loses jobs",
        ],
    ),
    (
        "a policy that allows everything",
        |site| {
            site.write("policy.yaml", "name: all\ndefault: allow\nrules: []\n", 0o644);
            site.set("policy.file", &site.path("policy.yaml"));
        },
        &["R10 command line:policy.file: the bundle allows everything"],
    ),
    (
        "every host",
        |site| site.set("listen.allowed_hosts", "*"),
        &["R11 command line:listen.allowed_hosts: `*` allows every host name"],
    ),
    (
        "data for everybody",
        |site| {
            std::fs::set_permissions(site.path("data"), std::fs::Permissions::from_mode(0o777))
                .expect("mode");
        },
        &["R12 command line:store.url: data can be used by every user of this machine (mode 777)"],
    ),
    (
        "data on another machine",
        |site| site.sources.file_system = Some(0x6969),
        &[
            "R12 command line:store.url: data is on a file system of kind NFS: that one server at a time has it open, and that a yes is on stable storage, cannot be relied on there",
        ],
    ),
    (
        "data on a file system of a program",
        |site| site.sources.file_system = Some(0x6573_5546),
        &[
            "R12 command line:store.url: data is on a file system of kind FUSE: that one server at a time has it open, and that a yes is on stable storage, cannot be relied on there",
        ],
    ),
    (
        "a clock before the build",
        |site| site.sources.now = Some(UNIX_EPOCH + Duration::from_secs(1_000_000_000)),
        &["R14: the clock of this machine is before the date this binary was built"],
    ),
    (
        "a setting that is none",
        |site| site.set("auth.keyfile", "x"),
        &[
            "R15 command line:auth.keyfile: there is no setting `auth.keyfile`; did you mean `auth.keys_file`?",
        ],
    ),
    (
        "a variable that is none",
        |site| drop(site.sources.env.insert("CORETEX_TLS_CRT".into(), "x".into())),
        &["R15 CORETEX_TLS_CRT: no setting has this variable; did you mean `CORETEX_TLS_CERT`?"],
    ),
    (
        "a variable that is not set",
        |site| {
            site.write("coretex.yaml", "log:\n  level: ${CORETEX_TEST_NOWHERE}\n", 0o600);
            site.sources.config = Some(site.path("coretex.yaml").into());
        },
        &["R16 coretex.yaml:2:log.level: `${CORETEX_TEST_NOWHERE}` names a variable that is not set"],
    ),
    (
        "secrets that others can read",
        |site| {
            site.write("secrets", "default:\n  A: b\n", 0o644);
            site.set("secrets.file", &site.path("secrets"));
        },
        &["R3 command line:secrets.file: secrets can be read by other users of this machine"],
    ),
    (
        "a policy with a secret that is not there",
        |site| {
            let rule =
                "{id: r, match: {topics: [a]}, verdict: deny, reason: 'secret://NONE, not secret://A'}";
            site.write("secrets", "team-a:\n  A: b\n", 0o600);
            site.write("policy", &format!("name: p\ndefault: allow\nrules:\n  - {rule}\n"), 0o600);
            site.set("secrets.file", &site.path("secrets"));
            site.set("policy.file", &site.path("policy"));
        },
        &["R16 command line:policy.file: policy refers to secret://NONE, which no provider has"],
    ),
];

#[test]
fn each_fault_keeps_a_server_from_starting_and_mended_it_starts() {
    for (what, spoil, expected) in CASES {
        let mut site = Site::new();
        assert_eq!(site.refused(), [""; 0], "{what}: good before");
        spoil(&mut site);
        assert_eq!(site.refused(), *expected, "{what}");
    }
    assert!(CASES.len() >= 18);
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let site = Site::new();
    site.write("key", &certificate(&["localhost"], false).1, 0o600);
    let lines = site.refused();
    assert!(
        lines.len() == 1 && lines[0].starts_with("R4 command line:tls.key: key is not the key of"),
        "{lines:?}"
    );
}

#[test]
fn more_connections_than_files_are_refused() {
    let mut site = Site::new();
    site.set("limits.connections_max", "1048576");
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let is_refused =
        site.refused().iter().any(|line| line.starts_with("R18 command line:limits.connections_max: "));
    assert_eq!(is_refused, files < 1_048_576 * 5 / 4 + 256);
}
