//! The façade for policies: versions, what is in force, what it says, what another would say.

mod ask;
pub(crate) mod force;
mod judge;
mod rows;

pub(crate) use ask::judge_now;
pub use ask::{Asked, Simulated};
pub use force::BUILT_IN_BUNDLE;
pub use judge::carried_decision;

use crate::Engine;
use crate::api::{Caller, Once};
use crate::catalog::{Draft, check_revision, named_row};
use coretex_domain::resource::{Kind, Resource};
use coretex_domain::{Namespace, Reason, Refusal, Time};
use coretex_policy::limits::RULES_MAX;
use coretex_policy::{Bundle, Report, diff, set};
use rows::{Head, Version, head_key, head_of, version_key, version_of};
use std::sync::Arc;

/// Most policies an installation has.
pub(crate) const POLICIES_MAX: usize = 256;

/// A policy, as one of its versions.
#[derive(Clone, Debug)]
pub struct PolicyInfo {
    pub name: Arc<str>,
    /// 0: the built-in policy.
    pub version: u64,
    pub in_force: bool,
    pub is_shadow: bool,
    pub digest: Arc<str>,
    pub yaml: Arc<str>,
    pub description: Arc<str>,
    pub rule_count: u32,
    pub actor: Arc<str>,
    pub comment: Arc<str>,
    pub create_time: Time,
    /// Of the policy as a whole.
    pub revision: u64,
}

/// A wish to put a bundle in force, or beside what is.
#[derive(Clone, Debug)]
pub struct Apply {
    pub bundle: Bundle,
    pub yaml: Arc<str>,
    pub is_shadow: bool,
    /// 0: whatever it is now.
    pub revision: u64,
    pub comment: Arc<str>,
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct Applied {
    pub policy: PolicyInfo,
    pub created: bool,
    /// What differs from what was in force, one line each.
    pub differences: Vec<String>,
}

fn not_found(name: &str, version: u64) -> Refusal {
    let what = if version == 0 { String::new() } else { format!(", version {version}") };
    Refusal::new(Reason::PolicyNotFound, format!("policy {name}{what} not found")).fact("name", name)
}

/// What differs, one line each.
pub fn differences(old: Option<&Bundle>, new: &Bundle) -> Vec<String> {
    match old {
        Some(old) => diff(old, new).to_string().lines().map(str::to_owned).collect(),
        None => new.rules.iter().map(|rule| format!("+ {}", rule.id)).collect(),
    }
}

fn info(name: &str, revision: u64, head: &Head, one: &Resource) -> Result<PolicyInfo, Refusal> {
    let version = version_of(one)?;
    Ok(PolicyInfo {
        name: name.into(),
        version: version.version,
        in_force: head.version == Some(version.version),
        is_shadow: head.shadow == Some(version.version),
        digest: version.digest,
        yaml: version.yaml,
        description: version.description,
        rule_count: version.rule_count,
        actor: version.actor,
        comment: version.comment,
        create_time: one.create_time,
        revision,
    })
}

// === impl Engine: reading ===

impl Engine {
    fn policy_head(&self, name: &str) -> Result<(Head, u64), Refusal> {
        match self.resource(&head_key(name)) {
            Some(one) => Ok((head_of(&one)?, one.revision)),
            None => Err(not_found(name, 0)),
        }
    }

    /// Names of all policies, those out of force included.
    pub fn policy_names(&self) -> Vec<Arc<str>> {
        let heads = self.resources(Kind::Policy, &Namespace::installation());
        let mut names: Vec<Arc<str>> = heads.iter().map(|one| one.name.clone()).collect();
        if !names.iter().any(|name| &**name == set::DEFAULT) {
            names.push(set::DEFAULT.into());
        }
        names
    }

    /// A version of a policy; 0 for the one in force, else the shadow, else the newest.
    pub async fn policy_info(&self, name: &str, version: u64) -> Result<PolicyInfo, Refusal> {
        let (head, revision) = match self.policy_head(name) {
            Err(_) if name == set::DEFAULT && version == 0 => return Ok(built_in()),
            other => other?,
        };
        let wanted = match version {
            0 => head.version.or(head.shadow).unwrap_or(head.newest),
            version => version,
        };
        let found = self.read_resources(vec![version_key(name, wanted)]).await?;
        let one = found.first().ok_or_else(|| not_found(name, wanted))?;
        info(name, revision, &head, one)
    }

    /// Versions of a policy below `before`, newest first; true if more may follow.
    pub async fn policy_versions(
        &self,
        name: &str,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<PolicyInfo>, bool), Refusal> {
        let (head, revision) = self.policy_head(name)?;
        let top = before.map_or(head.newest, |before| before.saturating_sub(1).min(head.newest));
        let keys: Vec<_> = (1..=top).rev().take(limit).map(|version| version_key(name, version)).collect();
        let more = top > keys.len() as u64;
        let found = self.read_resources(keys).await?;
        let infos: Result<Vec<_>, _> = found.iter().map(|one| info(name, revision, &head, one)).collect();
        Ok((infos?, more))
    }

    /// True if somebody put a policy in force, here or in a kernel elsewhere; false for the built-in one.
    pub fn has_own_policy(&self) -> bool {
        self.shared.in_force.rules().is_some() || self.shared.settings.remote_kernel.is_some()
    }

    /// True while a version is judged silently beside the policy.
    pub fn has_shadow(&self, name: &str) -> bool {
        self.policy_head(name).is_ok_and(|(head, _)| head.shadow.is_some())
    }

    /// What the shadows would have decided otherwise since they were applied, on this node.
    pub fn shadow_report(&self) -> Option<Report> {
        self.shared.in_force.shadow_report()
    }
}

fn built_in() -> PolicyInfo {
    let bundle = &*BUILT_IN_BUNDLE;
    PolicyInfo {
        name: bundle.name.clone(),
        version: 0,
        in_force: true,
        is_shadow: false,
        digest: bundle.version().into(),
        yaml: bundle.canonical().into(),
        description: bundle.description.clone().unwrap_or_default(),
        rule_count: count(bundle),
        actor: "".into(),
        comment: "".into(),
        create_time: Time(0),
        revision: 0,
    }
}

fn count(bundle: &Bundle) -> u32 {
    u32::try_from(bundle.rules.len()).unwrap_or(u32::MAX)
}

// === impl Engine: changing ===

impl Engine {
    /// Says what applying would do, and refuses what it would refuse.
    pub async fn preview_policy(&self, apply: &Apply) -> Result<Applied, Refusal> {
        let present = self.policy_info(&apply.bundle.name, 0).await.ok();
        check_revision(&apply.bundle.name, apply.revision, present.as_ref().map_or(0, |p| p.revision))?;
        self.compare(apply, present)
    }

    /// What applying would change, whatever the revision is.
    fn compare(&self, apply: &Apply, present: Option<PolicyInfo>) -> Result<Applied, Refusal> {
        let name = &*apply.bundle.name;
        self.check_sum(&apply.bundle)?;
        let old = present.as_ref().filter(|p| p.in_force).and_then(|p| Bundle::parse(&p.yaml).ok());
        let is_same = old.as_ref().is_some_and(|old| old.version() == apply.bundle.version());
        let policy = PolicyInfo {
            name: name.into(),
            version: 0,
            in_force: !apply.is_shadow,
            is_shadow: apply.is_shadow,
            yaml: apply.yaml.clone(),
            comment: apply.comment.clone(),
            digest: apply.bundle.version().into(),
            description: apply.bundle.description.clone().unwrap_or_default(),
            rule_count: count(&apply.bundle),
            revision: present.as_ref().map_or(0, |p| p.revision),
            ..built_in()
        };
        Ok(Applied { policy, created: !is_same, differences: differences(old.as_ref(), &apply.bundle) })
    }

    /// All policies together are bounded like one.
    fn check_sum(&self, new: &Bundle) -> Result<(), Refusal> {
        if self.shared.settings.remote_kernel.is_some() {
            return Err(ask::elsewhere());
        }
        let rows = self.shared.catalog.rows();
        let others = force::bundles(&rows, true)?.into_iter().filter(|bundle| bundle.name != new.name);
        let sum = new.rules.len() + others.map(|bundle| bundle.rules.len()).sum::<usize>();
        if sum > RULES_MAX {
            let message = format!("all policies together would have {sum} rules, at most {RULES_MAX}");
            return Err(Refusal::field("yaml", message));
        }
        Ok(())
    }

    /// Makes a version of a policy and puts it in force, or beside what is in force.
    pub async fn apply_policy(
        &self,
        caller: &Caller,
        apply: Apply,
        once: Option<Once>,
    ) -> Result<Applied, Refusal> {
        let preview = self.compare(&apply, self.policy_info(&apply.bundle.name, 0).await.ok())?;
        let (name, actor) = (apply.bundle.name.clone(), caller.actor.clone());
        let before = self.policy_head(&name).map_or(0, |(head, _)| head.newest);
        self.change_catalog(once, move |draft| draw_up(draft, &apply, actor)).await?;
        self.renew_policies().await?;
        let (head, _) = self.policy_head(&name)?;
        let version = match preview.policy.is_shadow {
            true => head.shadow,
            false => head.version,
        };
        let policy = self.policy_info(&name, version.unwrap_or(head.newest)).await?;
        let created = policy.version > before;
        Ok(Applied { policy, created, differences: preview.differences })
    }

    /// Puts a version there is in force.
    pub async fn rollback_policy(
        &self,
        name: &str,
        version: u64,
        revision: u64,
        once: Option<Once>,
    ) -> Result<Applied, Refusal> {
        let target = self.policy_info(name, version).await?;
        let new = Bundle::parse(&target.yaml)
            .map_err(|problems| Refusal::new(Reason::DataCorruption, problems.to_string()))?;
        self.check_sum(&new)?;
        let old = self.policy_info(name, 0).await.ok().filter(|p| p.in_force);
        let old = old.and_then(|p| Bundle::parse(&p.yaml).ok());
        let found = self.read_resources(vec![version_key(name, version)]).await?;
        let stored = found.first().cloned().ok_or_else(|| not_found(name, version))?;
        let asked: Arc<str> = name.into();
        let decide = move |draft: &mut Draft<'_>| put_in_force(draft, &asked, &stored, revision, version);
        self.change_catalog(once, decide).await?;
        self.renew_policies().await?;
        let policy = self.policy_info(name, version).await?;
        Ok(Applied { policy, created: false, differences: differences(old.as_ref(), &new) })
    }

    /// Takes a policy out of force, or its shadow away. True if something was.
    pub async fn delete_policy(
        &self,
        name: &str,
        only_shadow: bool,
        revision: u64,
        once: Option<Once>,
    ) -> Result<bool, Refusal> {
        let (head, _) = self.policy_head(name)?;
        let had = head.shadow.is_some() || (!only_shadow && head.version.is_some());
        let asked: Arc<str> = name.into();
        self.change_catalog(once, move |draft| {
            let change = |head: &mut Head| {
                head.shadow = None;
                if !only_shadow {
                    head.version = None;
                }
            };
            change_head(draft, &asked, revision, change)
        })
        .await?;
        self.renew_policies().await?;
        Ok(had)
    }

    /// Puts in force what the catalog says.
    async fn renew_policies(&self) -> Result<(), Refusal> {
        force::refresh(&self.shared).await
    }
}

fn draw_up(draft: &mut Draft<'_>, apply: &Apply, actor: Arc<str>) -> Result<(), Refusal> {
    let bundle = &apply.bundle;
    let name = &*bundle.name;
    let present = draft.get(&head_key(name));
    let head = present.as_deref().map(head_of).transpose()?.unwrap_or_default();
    if present.is_none() && draft.all(Kind::Policy, &Namespace::installation()).len() >= POLICIES_MAX {
        let message = format!("name: there are {POLICIES_MAX} policies, as many as allowed");
        return Err(Refusal::new(Reason::TooMany, message));
    }
    let digest: Arc<str> = bundle.version().into();
    let slot = if apply.is_shadow { head.shadow } else { head.version };
    let in_slot = slot.and_then(|version| draft.get(&version_key(name, version)));
    let is_same = in_slot.as_deref().map(version_of).transpose()?.is_some_and(|v| v.digest == digest);
    let newest = if is_same { head.newest } else { head.newest + 1 };
    if !is_same {
        let version = Version {
            version: newest,
            digest,
            yaml: apply.yaml.clone(),
            description: bundle.description.clone().unwrap_or_default(),
            rule_count: count(bundle),
            actor,
            comment: apply.comment.clone(),
        };
        let one = named_row(version_key(name, newest), &version, true, None, draft.now)?;
        draft.put(one);
    }
    let is_shadow = apply.is_shadow;
    change_head(draft, name, apply.revision, move |head| {
        if is_same {
            return;
        }
        head.newest = newest;
        match is_shadow {
            true => head.shadow = Some(newest),
            false => head.version = Some(newest),
        }
    })
}

fn put_in_force(
    draft: &mut Draft<'_>,
    name: &str,
    stored: &Resource,
    revision: u64,
    version: u64,
) -> Result<(), Refusal> {
    draft.put(Resource { is_live: true, ..stored.clone() });
    change_head(draft, name, revision, move |head| {
        head.version = Some(version);
        // A shadow that has become the real thing shadows nothing.
        head.shadow = head.shadow.filter(|shadow| *shadow != version);
    })
}

/// Changes the head of a policy, and lets versions sleep that it does not name any more.
fn change_head(
    draft: &mut Draft<'_>,
    name: &str,
    revision: u64,
    change: impl FnOnce(&mut Head),
) -> Result<(), Refusal> {
    let key = head_key(name);
    let present = draft.get(&key);
    check_revision(name, revision, present.as_ref().map_or(0, |one| one.revision))?;
    let old = present.as_deref().map(head_of).transpose()?.unwrap_or_default();
    let mut head = old.clone();
    change(&mut head);
    if head == old {
        return Ok(());
    }
    for gone in [old.version, old.shadow].into_iter().flatten() {
        if head.version != Some(gone)
            && head.shadow != Some(gone)
            && let Some(one) = draft.get(&version_key(name, gone))
        {
            draft.put(Resource { is_live: false, ..(*one).clone() });
        }
    }
    let one = named_row(key, &head, true, present.as_deref(), draft.now)?;
    draft.put(one);
    Ok(())
}
