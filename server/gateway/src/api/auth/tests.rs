use super::*;

fn bound(namespaces: &[&str]) -> Principal {
    let namespaces: Vec<String> = namespaces.iter().map(ToString::to_string).collect();
    Principal { namespaces: namespaces.into(), ..Principal::anonymous(Roles::ADMIN) }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn nobody_hands_out_a_role_that_may_more_than_they() {
    let refused = check_roles(Roles::of(&[Role::Operator]), Roles::of(&[Role::Viewer, Role::Admin]));
    let refused = refused.expect_err("an admin may more");
    assert_eq!(refused.reason, Reason::PermissionDenied);
    assert!(refused.message.contains("`admin`"), "{}", refused.message);
    assert_eq!(
        check_roles(Roles::of(&[Role::Operator]), Roles::of(&[Role::Viewer, Role::Submitter])),
        Ok(())
    );
    for role in Role::ALL {
        assert_eq!(check_roles(Roles::ADMIN, Roles::of(&[role])), Ok(()));
        assert!(check_roles(Roles::NONE, Roles::of(&[role])).is_err());
    }
}

#[test]
fn nobody_hands_out_a_namespace_that_is_not_theirs() {
    let own = bound(&["a", "b"]);
    for (wanted, is_good) in
        [(&["a"][..], true), (&["a", "b"], true), (&["a", "c"], false), (&["c"], false), (&[], false)]
    {
        assert_eq!(check_namespaces(&own, &names(wanted)).is_ok(), is_good, "{wanted:?}");
        assert_eq!(check_namespaces(&bound(&[]), &names(wanted)), Ok(()), "who is bound to nothing");
    }
}

#[test]
fn what_is_asked_for_is_checked_whole() {
    let now = Time(1_767_225_600_000);
    let good = pb::CreateApiKeyRequest {
        name: "ci".into(),
        roles: names(&["viewer", "viewer"]),
        namespaces: names(&["b", "a", "b"]),
        ..Default::default()
    };
    let wanted = read_wanted(&good, now).expect("good");
    assert_eq!((wanted.roles, wanted.namespaces), (Roles::of(&[Role::Viewer]), names(&["a", "b"])));
    let bad = pb::CreateApiKeyRequest {
        name: "a:b".into(),
        roles: names(&["vewer"]),
        namespaces: names(&["A B"]),
        expire_time: Some(coretex_contract::Timestamp { seconds: 1, nanos: 0 }),
        request_id: String::new(),
    };
    let refused = read_wanted(&bad, now).map(|_| ()).expect_err("bad");
    let fields: Vec<&str> = refused.violations.iter().map(|v| v.field.as_str()).collect();
    assert_eq!(fields, ["name", "roles[0]", "namespaces[0]", "expire_time"]);
    assert!(refused.violations[1].message.contains("`viewer`"), "{refused:?}");
    let many: Vec<String> = (0..API_KEY_NAMESPACES_MAX + 1).map(|n| format!("n{n}")).collect();
    let wide = vec!["x".repeat(60), "y".repeat(60), "z".repeat(60)];
    for namespaces in [many, wide] {
        assert!(read_wanted(&pb::CreateApiKeyRequest { namespaces, ..good.clone() }, now).is_err());
    }
    for id in ["", "short", "with spa", "ctx_aB3dE5gH_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"] {
        let refused = check_id(id).expect_err("no id");
        assert!(!refused.message.contains("AAEC") && subject(id).is_empty(), "{refused:?}");
    }
}
