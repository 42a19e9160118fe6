//! Every setting of a server: its key in the file, its variable, its default, and what it is.

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// `section.name`, as in the file.
    pub key: &'static str,
    /// Environment variable.
    pub env: &'static str,
    /// Value when nothing says otherwise, as text. Absent: off.
    pub default: Option<&'static str>,
    /// What is written in refusals when the value cannot be used.
    pub example: &'static str,
    /// What it is.
    pub about: &'static str,
}

macro_rules! known {
    ($($key:literal $env:literal $default:expr, $example:literal, $about:literal;)+) => {
        &[$(Known { key: $key, env: $env, default: $default, example: $example, about: $about },)+]
    };
}

/// All of them, by section.
pub const CATALOG: &[Known] = known! {
    "listen.address" "CORETEX_LISTEN" Some("127.0.0.1:7070"), "127.0.0.1:7070", "Address and port of the one listener";
    "listen.allowed_hosts" "CORETEX_ALLOWED_HOSTS" None, "[jobs.example.org]", "Host names that requests may name, besides the address itself";
    "store.url" "CORETEX_STORE" Some("file:./data"), "file:/var/lib/coretex", "Where jobs are kept: `file:PATH` or `memory`";
    "store.ack" "CORETEX_STORE_ACK" Some("durable"), "durable", "When a yes is given: `durable` after fdatasync, `relaxed` after the write";
    "store.max_bytes" "CORETEX_STORE_MAX_BYTES" None, "100GiB", "Size at which submits are refused; left out: 80 % of the disk";
    "store.backup_root" "CORETEX_STORE_BACKUP_ROOT" None, "/var/backups/coretex", "Directory that backups must be in; left out: any absolute path";
    "store.allow_weak" "CORETEX_STORE_ALLOW_WEAK" Some("false"), "true", "Accept a store in production that forgets: `memory:`, or `relaxed`";
    "engine.node_id" "CORETEX_NODE_ID" Some("local"), "node-a", "Name of this node";
    "engine.loops" "CORETEX_ENGINE_LOOPS" Some("1"), "2", "Shard loops";
    "engine.mailbox_max" "CORETEX_ENGINE_MAILBOX_MAX" Some("4096"), "4096", "Requests that may wait for a loop";
    "engine.open_jobs_max" "CORETEX_ENGINE_OPEN_JOBS_MAX" Some("20000000"), "20000000", "Open jobs held before submits are refused";
    "engine.session_ttl" "CORETEX_ENGINE_SESSION_TTL" Some("15s"), "15s", "How long a worker's session outlives silence";
    "engine.heartbeat" "CORETEX_ENGINE_HEARTBEAT" Some("5s"), "5s", "How often workers send a sign of life";
    "engine.drain_grace" "CORETEX_ENGINE_DRAIN_GRACE" Some("30s"), "30s", "How long a stop waits for running jobs";
    "auth.required" "CORETEX_AUTH_REQUIRED" None, "true", "Whether callers must say who they are. Left out: in production, and in dev where keys, issuers or certificates are set; `true` with none of them: by the keys that the server keeps";
    "auth.keys" "CORETEX_API_KEYS" None, "ci:KEY::submitter", "API keys as `NAME:KEY:NAMESPACE+NAMESPACE:ROLE+ROLE:EXPIRY`, or as maps; KEY may be a hash; better kept in a file";
    "auth.keys_file" "CORETEX_API_KEYS_FILE" None, "/etc/coretex/keys", "File with one such key per line, readable by its owner only";
    "auth.pepper_file" "CORETEX_API_KEYS_PEPPER_FILE" None, "/etc/coretex/pepper", "File with at least 32 bytes that hashes of keys are made with, readable by its owner only; production keeps API keys only with it";
    "auth.jwt" "CORETEX_AUTH_JWT" None, "[{name: corp, issuer: https://id.example.org, audiences: [coretex], jwks_url: https://id.example.org/jwks}]", "Identity providers whose tokens are believed, a list of maps (JSON in the variable)";
    "auth.certificates" "CORETEX_AUTH_CERTIFICATES" None, "[{uri: spiffe://example.org/ops, name: ops, roles: [operator]}]", "Whom client certificates stand for, a list of maps (JSON in the variable); needs tls.client_ca";
    "audit.retention" "CORETEX_AUDIT_RETENTION" Some("365d"), "365d", "How long audit records are kept, from 1d to 3660d; those there are keep their time";
    "tls.cert" "CORETEX_TLS_CERT" None, "/etc/coretex/tls.crt", "PEM file with the server's certificate chain; read again when it changes";
    "tls.key" "CORETEX_TLS_KEY" None, "/etc/coretex/tls.key", "PEM file with its private key, readable by its owner only";
    "tls.client_ca" "CORETEX_TLS_CLIENT_CA" None, "/etc/coretex/clients.crt", "PEM file with the authorities of client certificates, which are then required";
    "namespaces.mode" "CORETEX_NAMESPACES_MODE" None, "declared", "`open`: any namespace may be used; `declared`: only those that were created. Left out: open in dev, declared in production";
    "policy.file" "CORETEX_POLICY_FILE" None, "/etc/coretex/policy.yaml", "Bundle put in force at start and whenever the file changes; left out: what was applied, else the built-in policy";
    "policy.kernel" "CORETEX_POLICY_KERNEL" None, "https://safety.example.org:7070", "Policy kernel in another process that judges every job (`coretex safety serve`); jobs wait while it does not answer";
    "policy.kernel_key" "CORETEX_POLICY_KERNEL_KEY" None, "KEY", "API key shown to the policy kernel";
    "policy.kernel_ca" "CORETEX_POLICY_KERNEL_CA" None, "/etc/coretex/safety-ca.crt", "PEM file with the authorities to trust for its certificate";
    "secrets.file" "CORETEX_SECRETS_FILE" None, "/etc/coretex/secrets.yaml", "YAML file of secrets that jobs ask for: namespace, name, value; readable by its owner only; read again when it changes";
    "secrets.env_prefix" "CORETEX_SECRETS_ENV_PREFIX" None, "CORETEX_SECRET_", "What variables with secrets begin with; after it comes NAME, or NAMESPACE__NAME";
    "steps.enabled" "CORETEX_STEPS_ENABLED" None, "[set, validate, transform]", "Built-in steps that are done, from emit, http, log, set, transform, validate; the others fail. Left out: all in dev, all but http in production";
    "steps.slots" "CORETEX_STEPS_SLOTS" Some("64"), "64", "Built-in steps at a time that wait for something or compute, over all namespaces";
    "steps.http.allow" "CORETEX_STEPS_HTTP_ALLOW" None, "[api.internal, api.internal:8443, 10.1.0.0/16]", "What `http` steps may call besides public addresses at ports 80 and 443: HOST, HOST:PORT, ADDRESS/BITS or :PORT";
    "steps.http.ca" "CORETEX_STEPS_HTTP_CA" None, "/etc/coretex/internal-ca.crt", "PEM file with authorities that `http` steps trust besides those of this machine";
    "limits.connections_max" "CORETEX_LIMITS_CONNECTIONS_MAX" Some("10000"), "10000", "Connections at a time";
    "limits.connections_per_address_max" "CORETEX_LIMITS_CONNECTIONS_PER_ADDRESS_MAX" Some("2500"), "2500", "Connections at a time from one IPv4 address or one IPv6 /64 network";
    "limits.connection_idle_max" "CORETEX_LIMITS_CONNECTION_IDLE_MAX" Some("5m"), "5m", "How long a connection may lie idle before it is closed";
    "limits.connection_age_max" "CORETEX_LIMITS_CONNECTION_AGE_MAX" None, "1h", "Age, give or take a tenth, at which a connection takes no new calls and sends its workers to another; left out: none";
    "limits.calls_per_second" "CORETEX_LIMITS_CALLS_PER_SECOND" None, "1000", "Calls one identity may make per second, a stream counting as one; left out: any number";
    "limits.failed_logins_per_minute" "CORETEX_LIMITS_FAILED_LOGINS_PER_MINUTE" Some("10"), "10", "Wrong credentials in a minute after which an address waits for a minute; 0: any number";
    "limits.streams_max" "CORETEX_LIMITS_STREAMS_MAX" Some("256"), "256", "Concurrent requests on one connection";
    "limits.watches_max" "CORETEX_LIMITS_WATCHES_MAX" Some("10000"), "10000", "Watches open at a time";
    "limits.payload_max" "CORETEX_LIMITS_PAYLOAD_MAX" Some("1MiB"), "1MiB", "Largest payload, result or checkpoint";
    "limits.message_max" "CORETEX_LIMITS_MESSAGE_MAX" Some("4MiB"), "4MiB", "Largest request or frame, up to 32 MiB";
    "log.format" "CORETEX_LOG_FORMAT" Some("json"), "json", "How log lines look: `json` or `text`";
    "log.level" "CORETEX_LOG" Some("info"), "info,coretex_engine=debug", "What is logged, by target";
    "metrics.listen" "CORETEX_METRICS_LISTEN" None, "127.0.0.1:9090", "Loopback address of the metrics listener; left out: none in production";
};

/// Settings whose items may be maps.
pub const STRUCTURED: &[&str] = &["auth.keys", "auth.jwt", "auth.certificates"];

/// Variables with our prefix that are not settings of a server: a client's, a worker's, or the tests'.
pub const FOREIGN: &[&str] = &[
    "CORETEX_ADDR",
    "CORETEX_NAMESPACE",
    "CORETEX_API_KEY",
    "CORETEX_JOB_ID",
    "CORETEX_ATTEMPT",
    "CORETEX_EVIDENCE",
    "CORETEX_SOAK_SECONDS",
    "CORETEX_TOPIC",
];

/// The setting with this key.
pub fn find(key: &str) -> Option<&'static Known> {
    CATALOG.iter().find(|known| known.key == key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coretex_domain::nearest::nearest;

    #[test]
    fn a_typo_finds_its_name() {
        let names = || CATALOG.iter().map(|known| known.key);
        assert_eq!(nearest("store.ulr", names()), Some("store.url"));
        assert_eq!(nearest("tls.certt", names()), Some("tls.cert"));
        assert_eq!(nearest("zzzzzzzzzzzzzzzz", names()), None);
    }

    #[test]
    fn names_are_unique() {
        for (index, known) in CATALOG.iter().enumerate() {
            assert!(
                CATALOG.iter().skip(index + 1).all(|other| other.key != known.key && other.env != known.env)
            );
            assert!(known.env.starts_with("CORETEX_"));
        }
    }
}
