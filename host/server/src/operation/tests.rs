use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::*;

const DIGEST: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A request: method, path with `?type=`, and whether the host name has the project `pro`.
type Sample<'a> = (&'a str, &'a str, bool);

/// Parses a request. Returns its operation's name, permission and project.
fn parse(
    (method, target, has_project): Sample<'_>,
) -> Result<(&'static str, Permission, Option<String>), String> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path: Vec<String> =
        path.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect();
    let (method, query) = (Method::from_bytes(method.as_bytes()).unwrap(), Query::parse(query).unwrap());
    let operation = Operation::parse(&method, has_project.then_some("pro"), &path, &query);
    operation
        .map(|operation| (operation.name(), operation.permission(), operation.project().map(str::to_owned)))
        .map_err(|error| {
            assert_eq!(error.code, ErrorCode::ParameterInvalid);
            error.message
        })
}

/// The requests of the API, with their names and permissions. This list is a contract: metrics have the names, and
/// keys in use have the grants.
const REQUESTS: &[(&str, &str, &str, Permission)] = &[
    ("GET", "/metrics", "metrics", AllProjects(Read)),
    ("GET", "/stages", "list stages", AllProjects(Read)),
    ("POST", "/stages", "add stage", AllProjects(Admin)),
    ("GET", "/stages/s", "show stage", AllProjects(Read)),
    ("PUT", "/stages/s", "change stage", AllProjects(Admin)),
    ("PUT", "/stages/DIGEST", "change stage", AllProjects(Admin)),
    ("DELETE", "/stages/s", "remove stage", AllProjects(Admin)),
    ("DELETE", "/stages/DIGEST", "remove stage", AllProjects(Admin)),
    ("GET", "/store", "show store", AllProjects(Read)),
    ("POST", "/store?type=backup", "back up store", AllProjects(Admin)),
    ("POST", "/store?type=confirm", "confirm store", AllProjects(Admin)),
    ("POST", "/ingest/pro/l", "ingest", Project(Write)),
    ("GET", "/", "show project", Project(Read)),
    ("POST", "/", "create project", NewProject),
    ("PUT", "/", "update project", Project(Admin)),
    ("DELETE", "/", "delete project", Project(Admin)),
    ("GET", "/logstores", "list logstores", Project(Read)),
    ("POST", "/logstores", "create logstore", Project(Admin)),
    ("GET", "/logstores/l", "show logstore", Project(Read)),
    ("PUT", "/logstores/l", "update logstore", Project(Admin)),
    ("DELETE", "/logstores/l", "delete logstore", Project(Admin)),
    ("PUT", "/logstores/l/hold", "hold logstore", Project(Admin)),
    ("DELETE", "/logstores/l/hold", "release logstore", AllProjects(Admin)),
    ("POST", "/logstores/l", "put", Project(Write)),
    ("POST", "/logstores/l/shards/lb", "put", Project(Write)),
    ("POST", "/logstores/l/shards/route", "put", Project(Write)),
    ("GET", "/logstores/l/shards", "list shards", Project(Read)),
    ("POST", "/logstores/l/shards/0", "split or merge", Project(Admin)),
    ("POST", "/logstores/l/shards/x", "split or merge", Project(Admin)),
    ("GET", "/logstores/l/shards/0?type=cursor", "cursor", Project(Read)),
    ("GET", "/logstores/l/shards/0?type=cursor_time", "cursor time", Project(Read)),
    ("GET", "/logstores/l/shards/0?type=log", "pull", Project(Read)),
    ("GET", "/logstores/l/shards/0?type=logs", "pull", Project(Read)),
    ("GET", "/logstores/l/shards/lb?type=logs", "pull", Project(Read)),
    ("GET", "/logstores/l/shards/0", "unknown", Project(Read)),
    ("GET", "/logstores/l/shards/0?type=x", "unknown", Project(Read)),
    ("GET", "/logstores/l/consumergroups", "list groups", Project(Read)),
    ("POST", "/logstores/l/consumergroups", "create group", Project(Read)),
    ("PUT", "/logstores/l/consumergroups/g", "update group", Project(Read)),
    ("DELETE", "/logstores/l/consumergroups/g", "delete group", Project(Read)),
    ("GET", "/logstores/l/consumergroups/g?type=status", "group status", Project(Read)),
    ("GET", "/logstores/l/consumergroups/g", "checkpoints", Project(Read)),
    ("GET", "/logstores/l/consumergroups/g?type=x", "checkpoints", Project(Read)),
    ("POST", "/logstores/l/consumergroups/g?type=heartbeat", "heartbeat", Project(Read)),
    ("POST", "/logstores/l/consumergroups/g?type=checkpoint", "save checkpoint", Project(Read)),
    ("POST", "/logstores/l/consumergroups/g", "unknown", Project(Read)),
    ("POST", "/logstores/l/consumergroups/g?type=x", "unknown", Project(Read)),
    ("GET", "/logstores/l/shipper", "list shippers", Project(Read)),
    ("POST", "/logstores/l/shipper", "create shipper", Project(Admin)),
    ("GET", "/logstores/l/shipper/r", "show shipper", Project(Read)),
    ("PUT", "/logstores/l/shipper/r", "update shipper", Project(Admin)),
    ("DELETE", "/logstores/l/shipper/r", "delete shipper", Project(Admin)),
    ("POST", "/logstores/l/shipper/r/trials", "try stage", AllProjects(Admin)),
    ("GET", "/logstores/l/shipper/r/tasks", "list tasks", Project(Read)),
    ("PUT", "/logstores/l/shipper/r/tasks", "retry tasks", Project(Admin)),
    ("GET", "/sources", "list sources", Project(Read)),
    ("POST", "/sources", "create source", Project(Admin)),
    ("POST", "/sources?type=test", "test source", Project(Admin)),
    ("GET", "/sources/s", "show source", Project(Read)),
    ("PUT", "/sources/s", "update source", Project(Admin)),
    ("DELETE", "/sources/s", "delete source", Project(Admin)),
    ("POST", "/sources/s?type=test", "test source", Project(Admin)),
    ("GET", "/jobs", "list jobs", Project(Read)),
    ("POST", "/jobs", "create job", Project(Admin)),
    ("POST", "/jobs?type=preview", "preview job", Project(Admin)),
    ("POST", "/jobs?type=table", "create table", Project(Admin)),
    ("GET", "/jobs/j", "show job", Project(Read)),
    ("PUT", "/jobs/j", "update job", Project(Admin)),
    ("DELETE", "/jobs/j", "delete job", Project(Admin)),
    ("POST", "/jobs/j?type=preview", "preview job", Project(Admin)),
    ("POST", "/jobs/j?type=table", "create table", Project(Admin)),
    ("GET", "/jobs/j/runs", "list runs", Project(Read)),
    ("POST", "/jobs/j/runs", "run job", Project(Admin)),
    ("GET", "/jobs/j/runs/1", "show run", Project(Read)),
    ("POST", "/jobs/j/runs/1?type=rerun", "rerun job", Project(Admin)),
    ("POST", "/jobs/j/runs/1?type=stop", "stop run", Project(Admin)),
    ("GET", "/deadletters", "list dead letters", Project(Read)),
    ("POST", "/deadletters?type=resend", "resend dead letters", Project(Admin)),
    ("POST", "/restore", "restore project", Project(Admin)),
    ("GET", "/deleted", "list deleted logstores", Project(Read)),
    ("POST", "/logstores/l/restore", "restore logstore", Project(Admin)),
    ("GET", "/tasks", "list tasks", Project(Read)),
    ("PUT", "/tasks", "retry tasks", Project(Admin)),
    ("GET", "/tasks/1", "show task", Project(Read)),
    ("GET", "/tasks/1?type=verify", "show task", Project(Read)),
    ("GET", "/stages/DIGEST", "fetch stage", Project(Read)),
];

#[test]
fn requests_keep_name_and_permission() {
    for &(method, target, name, permission) in REQUESTS {
        let target = target.replace("DIGEST", DIGEST);
        let (found, needed, project) = parse((method, &target, true)).unwrap();
        assert_eq!((found, needed), (name, permission), "{method} {target}");
        assert_eq!(
            project.is_some(),
            matches!(needed, Project(_)) || ["try stage", "release logstore"].contains(&name),
            "{target}"
        );
        assert!(project.is_none_or(|project| project == "pro"), "{method} {target}");
    }
    // All operations are in the list, except for those without a key and those without a project.
    let listed: HashSet<_> = REQUESTS.iter().map(|&(_, _, name, _)| name).collect();
    let rest = Operation::ALL.iter().map(Operation::name).filter(|name| !listed.contains(name));
    assert_eq!(rest.collect::<Vec<_>>(), ["health", "ready", "list projects", "list deleted projects"]);
}

#[test]
fn only_some_requests_work_without_project() {
    const WITHOUT: [&str; 12] = [
        "show store",
        "confirm store",
        "back up store",
        "metrics",
        "list stages",
        "add stage",
        "show stage",
        "change stage",
        "remove stage",
        "ingest",
        "create project",
        "list projects",
    ];
    assert_eq!(parse(("GET", "/", false)), Ok(("list projects", AnyKey, None)));
    assert_eq!(parse(("GET", "/deleted", false)), Ok(("list deleted projects", AnyKey, None)));
    for &(method, target, name, permission) in REQUESTS {
        let target = target.replace("DIGEST", DIGEST);
        match parse((method, &target, false)) {
            Ok((found, needed, _)) if !["/", "/deleted"].contains(&&*target) || method != "GET" => {
                assert_eq!((found, needed), (name, permission), "{method} {target}");
                assert!(WITHOUT.contains(&name), "{method} {target}");
            }
            Ok(_) => {}
            Err(error) => {
                assert!(error.starts_with("the request has no project: put it before the host name"));
                assert!(!WITHOUT.contains(&name), "{method} {target}");
            }
        }
    }
}

#[test]
fn rejects_unknown_requests() {
    for (method, target) in [
        ("PATCH", "/"),
        ("get", "/logstores"),
        ("GET", "/healthz/"),
        ("ANY", "/healthz/"),
        ("POST", "/metrics"),
        ("GET", "/nonsense"),
        ("POST", "/stages/s"),
        ("GET", "/stages/s/t"),
        ("GET", "/ingest/pro/l"),
        ("POST", "/ingest/pro"),
        ("DELETE", "/logstores"),
        ("DELETE", "/logstores/l/shards/0"),
        ("PUT", "/logstores/l/shards/0"),
        ("GET", "/logstores/l/index"),
        ("GET", "/logstores/l/shipper/r/trials"),
        ("POST", "/logstores/l/shipper/r/tasks/1"),
        ("POST", "/tasks"),
        ("PUT", "/tasks/1"),
    ] {
        let path = target.trim_end_matches('/').trim_start_matches('/');
        let expected = format!("{method} /{path} is not a request of this API");
        assert_eq!(parse((method, target, true)), Err(expected));
        let error = parse((method, target, false)).unwrap_err();
        let expected =
            "the request has no project: put it before the host name, as in PROJECT.logs.example.org";
        assert_eq!(error, expected, "{method} {target}");
    }
}

#[test]
fn few_requests_need_no_key() {
    for open_metrics in [false, true] {
        for operation in Operation::ALL {
            let Endpoint { paths, permission, .. } = operation.endpoint();
            let is_open = *permission == NoKey || open_metrics && *operation == Operation::ShowMetrics;
            let found = Operation::without_key(paths[0], open_metrics);
            assert_eq!(found, is_open.then_some(*operation), "{operation:?}");
        }
    }
}

#[test]
fn only_two_requests_carry_a_component() {
    let operations = Operation::ALL.iter().filter(|operation| {
        let Endpoint { method, paths, .. } = operation.endpoint();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        paths.iter().any(|path| Operation::takes_component(&method, path.trim_start_matches("PROJECT")))
    });
    assert_eq!(operations.map(Operation::name).collect::<Vec<_>>(), ["add stage", "try stage"]);
}

/// Returns a request that matches a template, and whether its host name has a project.
fn sample(template: &str) -> (String, bool) {
    let (host, path) = template.split_once('/').unwrap();
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let value = |part: &str| match part {
        "DIGEST" => DIGEST.to_owned(),
        part if is_parameter(part) => "x".to_owned(),
        part => part.to_owned(),
    };
    let path: Vec<String> = path.split('/').map(value).collect();
    (format!("/{}?{query}", path.join("/")), is_parameter(host))
}

#[test]
fn no_two_operations_claim_a_request() {
    let mut claimed = HashSet::new();
    for operation in Operation::ALL {
        let Endpoint { method, paths, permission, .. } = operation.endpoint();
        for path in *paths {
            assert!(claimed.insert((method, path)), "{method} {path} is listed twice");
            if *permission == NoKey {
                continue;
            }
            let (target, has_project) = sample(path);
            // A special request precedes a general one that would also match it, so each is found by its own sample.
            let found = parse((method, &target, has_project)).unwrap();
            assert_eq!((found.0, found.1), (operation.name(), *permission), "{method} {path}");
        }
    }
}

#[test]
fn parameters_are_the_capitals_of_each_path() {
    for operation in Operation::ALL {
        for path in operation.endpoint().paths {
            let words = path.split(['/', '?']).filter(|word| is_parameter(word));
            let words: Vec<String> = words.map(str::to_lowercase).collect();
            let parameters: Vec<_> = operation.parameters().into_iter().map(|(name, _)| name).collect();
            assert_eq!(words, parameters, "{path}");
        }
    }
}

const PAGE: &str = "../../docs/service.md";
const BEGIN: &str = "<!-- operations: begin -->\n";
const END: &str = "<!-- operations: end -->";

fn needed(permission: Permission) -> String {
    let name = |access: Access| format!("`{access:?}`").to_lowercase();
    match permission {
        NoKey => "no key".into(),
        AnyKey => "any key".into(),
        NewProject => format!("{} of the new project", name(Admin)),
        Project(access) => name(access),
        AllProjects(access) => format!("{} of all projects", name(access)),
    }
}

/// The operations whose paths begin with `host`, as a table.
fn table(host: &str) -> String {
    let mut table = String::from(
        "| method | path | operation | access | action in policies | API |\n|---|---|---|---|---|---|\n",
    );
    for operation in Operation::ALL.iter().filter(|operation| operation.name() != UNKNOWN) {
        let Endpoint { name, method, paths, permission, api, actions } = operation.endpoint();
        let actions = actions.iter().map(|action| format!("`{action}`")).collect::<Vec<_>>().join(", ");
        let (access, api) = (needed(*permission), if *api == Api::Sls { "Log Service" } else { "logship" });
        for path in paths.iter().filter_map(|path| path.strip_prefix(host)) {
            if path.starts_with('/') {
                let method = if *method == "ANY" { "any" } else { method };
                writeln!(table, "| {method} | `{path}` | {name} | {access} | {actions} | {api} |").unwrap();
            }
        }
    }
    table
}

#[test]
fn docs_have_all_operations() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let (service, project) = (table(""), table("PROJECT"));
    let expected = format!(
        "{before}{BEGIN}Requests to any host name:\n\n{service}\nRequests to `PROJECT.HOST`:\n\n{project}{END}{after}"
    );
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    assert!(
        text == expected || std::env::var_os("BLESS").is_some(),
        "the operations in docs/service.md are stale: run `BLESS=1 cargo test -p logship-server operation`"
    );
}
