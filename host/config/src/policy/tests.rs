use super::*;

/// Returns a policy with one statement for each effect, actions and resources.
fn policy(statements: &[(&str, &str, &str)]) -> Policy {
    let statement = |(effect, action, resource): &(&str, &str, &str)| {
        let list = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        serde_json::json!({ "Effect": effect, "Action": list(action), "Resource": list(resource) })
    };
    let statements: Vec<_> = statements.iter().map(statement).collect();
    Policy::parse(&serde_json::json!({ "Version": "1", "Statement": statements }).to_string()).unwrap()
}

fn decide(policy: &Policy, action: &str, path: &str) -> Decision {
    policy.decide(&[action], &[path.to_owned()])
}

fn error(json: &str) -> String {
    Policy::parse(json).unwrap_err().to_string()
}

/// Returns the error of a policy whose only statement has these elements.
fn statement_error(elements: &str) -> String {
    error(&format!(r#"{{"Version": "1", "Statement": [{{{elements}}}]}}"#))
}

#[test]
fn deny_overrides_allow_in_any_order() {
    use Decision::{Allowed, Denied, NotAllowed};
    let allow = ("Allow", "log:*", "acs:log:*:*:project/web/*");
    let deny = ("Deny", "log:DeleteLogStore log:Put*", "acs:log:*:*:project/web/logstore/keep*");
    for (statements, number) in [([allow, deny], 2), ([deny, allow], 1)] {
        let policy = policy(&statements);
        assert_eq!(decide(&policy, "log:DeleteLogStore", "project/web/logstore/keep-1"), Denied(number));
        assert_eq!(decide(&policy, "log:deletelogstore", "project/web/logstore/keep-1"), Denied(number));
        assert_eq!(decide(&policy, "log:DeleteLogStore", "project/web/logstore/other"), Allowed);
        assert_eq!(decide(&policy, "log:GetLogStore", "project/web/logstore/keep-1"), Allowed);
        assert_eq!(decide(&policy, "log:GetLogStore", "project/shop/logstore/keep-1"), NotAllowed);
        assert_eq!(decide(&policy, "logship:GetStage", "project/web/stage/x"), NotAllowed);
    }
}

#[test]
fn any_name_and_any_path_of_an_action_count() {
    let policy = policy(&[
        ("Allow", "log:HeartBeat", "acs:log:*:*:project/web/logstore/access/shard/0"),
        ("Deny", "log:HeartBeat", "acs:log:*:*:project/web/logstore/secret"),
    ]);
    let paths = |logstore: &str, shard: u8| {
        let logstore = format!("project/web/logstore/{logstore}");
        vec![format!("{logstore}/shard/{shard}"), logstore]
    };
    let names = ["log:ConsumerGroupHeartBeat", "log:HeartBeat"];
    assert_eq!(policy.decide(&names, &paths("access", 0)), Decision::Allowed);
    assert_eq!(policy.decide(&names, &paths("access", 1)), Decision::NotAllowed);
    assert_eq!(policy.decide(&names, &paths("secret", 0)), Decision::Denied(2));
    assert!(policy.may_allow(&names) && !policy.may_allow(&names[..1]));
}

#[test]
fn texts_and_lists_are_the_same() {
    let text = r#"{"Version": "1", "Statement": [{"Effect": "Allow", "Action": "log:*", "Resource": "*"}]}"#;
    let list =
        r#"{"Statement": [{"Resource": ["*"], "Action": ["log:*"], "Effect": "Allow"}], "Version": "1"}"#;
    assert_eq!(Policy::parse(text).unwrap(), Policy::parse(list).unwrap());
    assert_eq!(Policy::parse(&format!("\u{feff}{text}\n")).unwrap(), policy(&[("Allow", "log:*", "*")]));
}

#[test]
fn conditions_and_unknown_elements_are_rejected_by_name() {
    let rest = r#""Effect": "Allow", "Action": "log:*", "Resource": "*""#;
    let condition = statement_error(&format!(
        r#"{rest}, "Condition": {{"IpAddress": {{"acs:SourceIp": "10.0.0.0/8"}}, "Bool": {{"acs:SecureTransport": "true"}}}}"#
    ));
    assert!(condition.contains("Bool acs:SecureTransport, IpAddress acs:SourceIp"), "{condition}");
    assert!(condition.contains("statement 1"), "{condition}");
    for element in ["NotAction", "NotResource", "Principal", "Condition", "Sid", "effect"] {
        let error = statement_error(&format!(r#"{rest}, "{element}": {{}}"#));
        assert!(error.contains(element) || error.contains("conditions"), "{error}");
    }
}

#[test]
fn incomplete_and_ambiguous_policies_are_rejected() {
    for (elements, problem) in [
        (r#""Action": "log:*", "Resource": "*""#, "Effect"),
        (r#""Effect": "allow", "Action": "log:*", "Resource": "*""#, "unknown variant `allow`"),
        (r#""Effect": "Allow", "Resource": "*""#, "Action is missing"),
        (r#""Effect": "Allow", "Action": "log:*""#, "Resource is missing"),
        (r#""Effect": "Allow", "Action": [], "Resource": "*""#, "Action is an empty list"),
        (r#""Effect": "Allow", "Action": "log:*", "Resource": []"#, "Resource is an empty list"),
        (r#""Effect": "Allow", "Action": [""], "Resource": "*""#, "empty text"),
        (r#""Effect": "Allow", "Action": 1, "Resource": "*""#, "a text or a list of texts"),
        (r#""Effect": "Allow", "Action": null, "Resource": "*""#, "a text or a list of texts"),
        (r#""Effect": "Allow", "Action": [["log:*"]], "Resource": "*""#, "a text or a list of texts"),
        (r#""Effect": "Allow", "Effect": "Deny", "Action": "log:*", "Resource": "*""#, "duplicate field"),
    ] {
        let error = statement_error(elements);
        assert!(error.contains(problem), "{elements}: {error}");
    }
    for (json, problem) in [
        (r#"{"Version": "2", "Statement": []}"#, "Version is \"2\""),
        (r#"{"Version": 1, "Statement": []}"#, "expected a string"),
        (r#"{"Version": "1", "Statement": []}"#, "Statement is empty"),
        (r#"{"Version": "1", "Statement": {}}"#, "expected a sequence"),
        (r#"{"Statement": []}"#, "Version"),
        (r#"{"Version": "1"}"#, "Statement"),
        (r#"{"Version": "1", "Statement": [], "Id": "x"}"#, "Id"),
        ("[]", "invalid"),
        ("", "EOF"),
    ] {
        let error = error(json);
        assert!(error.contains(problem), "{json}: {error}");
    }
}

#[test]
fn huge_policies_are_rejected() {
    let resources: Vec<_> =
        (0..400).map(|number| format!("acs:log:*:*:project/web-{number:020}/*")).collect();
    let statement = serde_json::json!({ "Effect": "Allow", "Action": "log:*", "Resource": resources });
    let json = serde_json::json!({ "Version": "1", "Statement": [statement] }).to_string();
    assert!(error(&json).contains("the limit is 16384"));
}
