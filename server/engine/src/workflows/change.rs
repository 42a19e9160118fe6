//! Changes of workflows: decided on the mirror of the catalog, one at a time.

use super::rows::{Facts, Head, Version, head_key, read, version_key};
use super::{WorkflowInfo, head_of};
use crate::Engine;
use crate::api::{Caller, Once};
use crate::catalog::{Change, Draft, check_revision, named_row};
use coretex_domain::limits::{WORKFLOW_NAMES_MAX, WORKFLOW_VERSIONS_MAX, WORKFLOWS_MAX};
use coretex_domain::resource::{Kind, Resource};
use coretex_domain::{Namespace, Reason, Refusal};
use coretex_workflow::Workflow;
use std::sync::{Arc, OnceLock};

/// A workflow to be kept.
#[derive(Clone, Debug)]
pub struct ApplyWorkflow {
    pub workflow: Arc<Workflow>,
    /// What it was read from.
    pub text: Arc<str>,
    /// 0: whatever it is now.
    pub revision: u64,
    pub comment: Arc<str>,
}

/// What became of it.
#[derive(Clone, Debug)]
pub struct WorkflowApplied {
    /// The newest version, without its text.
    pub workflow: WorkflowInfo,
    pub created: bool,
}

// === impl ApplyWorkflow ===

impl ApplyWorkflow {
    fn name(&self) -> &Arc<str> {
        &self.workflow.definition.name
    }

    /// As version 0.
    fn facts(&self, actor: Arc<str>, once: Option<Once>) -> Facts {
        let definition = &self.workflow.definition;
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Facts {
            version: 0,
            digest: definition.digest().into(),
            description: definition.description.clone().unwrap_or_default(),
            step_count: count(definition.step_count()),
            topic_count: count(definition.topics().len()),
            actor,
            comment: self.comment.clone(),
            call: once.map(named),
        }
    }
}

fn named(once: Once) -> Arc<str> {
    format!("{:032x}", once.id).into()
}

// === impl Engine ===

impl Engine {
    /// Says what applying would do, and refuses what it would refuse.
    pub fn preview_workflow(
        &self,
        caller: &Caller,
        apply: &ApplyWorkflow,
    ) -> Result<WorkflowApplied, Refusal> {
        let (namespace, name) = (&caller.namespace, apply.name());
        let present = self.resource(&head_key(namespace, name));
        check_revision(
            &format!("workflow {name}"),
            apply.revision,
            present.as_ref().map_or(0, |one| one.revision),
        )?;
        let facts = apply.facts(caller.actor.clone(), None);
        let all = self.resources(Kind::Workflow, namespace);
        let (head, revision) = match &present {
            Some(one) => (read(one)?, one.revision),
            None => (Head::default(), 0),
        };
        if present.is_some() && says_the_same(&head, &facts) {
            return Ok(WorkflowApplied {
                workflow: WorkflowInfo::newest(name.clone(), &head, revision),
                created: false,
            });
        }
        check_room(&all, present.is_some(), &head)?;
        let would = Head { deleted: None, ..head };
        let workflow =
            WorkflowInfo::new(name.clone(), &would, revision, facts, self.shared.env.clock.now().wall);
        Ok(WorkflowApplied { workflow, created: true })
    }

    /// Keeps a workflow as its next version, unless the newest one says the same.
    pub async fn apply_workflow(
        &self,
        caller: &Caller,
        apply: ApplyWorkflow,
        once: Option<Once>,
    ) -> Result<WorkflowApplied, Refusal> {
        let (namespace, name) = (caller.namespace.clone(), apply.name().clone());
        let facts = apply.facts(caller.actor.clone(), once);
        let made = Arc::new(OnceLock::new());
        let (told, home) = (made.clone(), namespace.clone());
        let change = self.change_catalog(once, move |draft| {
            let done = decide(draft, &home, &apply, facts)?;
            // Another task cannot have set it: this one is made once.
            let _ = told.set(done);
            Ok(())
        });
        match (change.await?, made.get()) {
            (Change::Made, Some(done)) => Ok(done.clone()),
            // A repeat is told how it is now; whether this very call has made that version is kept with it.
            (Change::Made | Change::Repeat, _) => {
                let (head, revision) =
                    head_of(self.resource(&head_key(&namespace, &name)).as_deref(), &name)?;
                let created = once.is_some_and(|once| head.newest.call == Some(named(once)));
                Ok(WorkflowApplied { workflow: WorkflowInfo::newest(name, &head, revision), created })
            }
        }
    }

    /// Takes a workflow away; its versions stay. True if it was there.
    pub async fn delete_workflow(
        &self,
        namespace: &Namespace,
        name: &str,
        revision: u64,
        once: Option<Once>,
    ) -> Result<bool, Refusal> {
        let key = head_key(namespace, name);
        let had = Arc::new(OnceLock::new());
        let told = had.clone();
        let change = self.change_catalog(once, move |draft| {
            let present = draft.get(&key);
            let (head, at) = head_of(present.as_deref(), &key.name)?;
            check_revision(&format!("workflow {}", key.name), revision, at)?;
            let _ = told.set(head.deleted.is_none());
            if head.deleted.is_none() {
                let gone = Head { deleted: Some(draft.now.0), ..head };
                let one = named_row(key, &gone, true, present.as_deref(), draft.now)?;
                draft.put(one);
            }
            Ok(())
        });
        match change.await? {
            Change::Made => Ok(had.get().copied().unwrap_or_default()),
            // Only a call that took it away is remembered.
            Change::Repeat => Ok(true),
        }
    }
}

/// Nothing new would be said.
fn says_the_same(head: &Head, facts: &Facts) -> bool {
    head.deleted.is_none() && head.newest.digest == facts.digest
}

/// Makes the next version, if it says something new.
fn decide(
    draft: &mut Draft<'_>,
    namespace: &Namespace,
    apply: &ApplyWorkflow,
    facts: Facts,
) -> Result<WorkflowApplied, Refusal> {
    let name = apply.name().clone();
    let key = head_key(namespace, &name);
    let present = draft.get(&key);
    let at = present.as_ref().map_or(0, |one| one.revision);
    check_revision(&format!("workflow {name}"), apply.revision, at)?;
    let head: Head = present.as_deref().map(read).transpose()?.unwrap_or_default();
    if present.is_some() && says_the_same(&head, &facts) {
        return Ok(WorkflowApplied { workflow: WorkflowInfo::newest(name, &head, at), created: false });
    }
    check_room(&draft.all(Kind::Workflow, namespace), present.is_some(), &head)?;
    let facts = Facts { version: head.newest.version + 1, ..facts };
    let version = Version { facts: facts.clone(), text: apply.text.clone() };
    let row = named_row(version_key(namespace, &name, facts.version), &version, false, None, draft.now)?;
    let head = Head { newest: facts, made: draft.now.0, deleted: None };
    let head_row = named_row(key, &head, true, present.as_deref(), draft.now)?;
    let revision = head_row.revision;
    draft.put(row);
    draft.put(head_row);
    Ok(WorkflowApplied { workflow: WorkflowInfo::newest(name, &head, revision), created: true })
}

/// Heads are kept in memory, versions for ever.
fn check_room(all: &[Arc<Resource>], is_known: bool, head: &Head) -> Result<(), Refusal> {
    let refuse = |message: String| Err(Refusal::new(Reason::TooMany, message));
    if head.newest.version >= WORKFLOW_VERSIONS_MAX {
        return refuse(format!(
            "workflow: it has {} versions, as many as allowed; apply it under another name",
            head.newest.version
        ));
    }
    if is_known && head.deleted.is_none() {
        return Ok(());
    }
    if !is_known && all.len() >= WORKFLOW_NAMES_MAX {
        return refuse(format!(
            "workflow: the namespace has used {WORKFLOW_NAMES_MAX} names, as many as allowed; use one of them again"
        ));
    }
    let mut live = 0;
    for one in all {
        live += usize::from(read::<Head>(one)?.deleted.is_none());
    }
    if live >= WORKFLOWS_MAX {
        return refuse(format!(
            "workflow: the namespace has {WORKFLOWS_MAX} workflows, as many as allowed; delete one"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use coretex_domain::Time;

    fn row(name: &str, head: &Head) -> Arc<Resource> {
        let key = head_key(&Namespace::new("n"), name);
        Arc::new(named_row(key, head, true, None, Time(1)).expect("written"))
    }

    fn at(version: u64, deleted: Option<u64>) -> Head {
        let newest = Facts { version, ..Facts::default() };
        Head { newest, deleted, ..Head::default() }
    }

    #[test]
    fn names_workflows_and_versions_are_bounded() {
        let refused = |all: &[Arc<Resource>], is_known, head: &Head| {
            check_room(all, is_known, head).map_err(|refusal| (refusal.reason, refusal.message))
        };
        let live: Vec<_> = (0..WORKFLOWS_MAX).map(|n| row(&format!("w{n}"), &at(1, None))).collect();
        assert_eq!(refused(&live[1..], false, &Head::default()), Ok(()));
        let (reason, told) = refused(&live, false, &Head::default()).expect_err("one more");
        assert!(reason == Reason::TooMany && told.contains("has 1000 workflows"), "{told}");
        assert!(refused(&live, true, &at(3, Some(5))).is_err(), "one that comes back is one more");
        assert_eq!(refused(&live, true, &at(3, None)), Ok(()), "a new version of one there is");
        let gone: Vec<_> = (0..WORKFLOW_NAMES_MAX).map(|n| row(&format!("w{n}"), &at(1, Some(5)))).collect();
        assert_eq!(refused(&gone, true, &at(1, Some(5))), Ok(()), "a name that was used before");
        let (_, told) = refused(&gone, false, &Head::default()).expect_err("a new name");
        assert!(told.contains("has used 10000 names"), "{told}");
        assert_eq!(refused(&[], true, &at(WORKFLOW_VERSIONS_MAX - 1, None)), Ok(()));
        let (_, told) = refused(&[], true, &at(WORKFLOW_VERSIONS_MAX, None)).expect_err("full");
        assert!(told.contains("has 10000 versions"), "{told}");
    }
}
