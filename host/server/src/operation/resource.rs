//! The resources of operations in policies, such as `project/web/logstore/access`. They follow from the paths.

use super::{Operation, is_parameter};

/// The collections of paths, and the kinds of their resources.
const COLLECTIONS: [(&str, &str); 10] = [
    ("logstores", "logstore"),
    ("shards", "shard"),
    ("consumergroups", "consumergroup"),
    ("shipper", "shipper"),
    ("tasks", "task"),
    ("stages", "stage"),
    ("sources", "source"),
    ("jobs", "job"),
    ("runs", "run"),
    ("deadletters", "deadletter"),
];

/// Kinds whose actions Log Service defines for what they belong to: a Logstore or a job.
const PARTS: [&str; 3] = ["shard", "shipper", "run"];

impl Operation<'_> {
    /// Returns the paths of the operation's resource: its own, and that of its Logstore or job if Log Service names that.
    ///
    /// `name` is the name of the object that the operation creates; without it, `*` stands for all objects.
    pub(crate) fn resources(&self, name: Option<&str>) -> Vec<String> {
        let path = self.resource(name.unwrap_or("*"));
        let whole = PARTS.iter().find_map(|kind| path.split_once(&format!("/{kind}/")));
        let whole = whole.map(|(whole, _)| whole.to_owned());
        [path].into_iter().chain(whole).collect()
    }

    /// Returns the path of the operation's own resource. A slash within a name stays within it.
    fn resource(&self, name: &str) -> String {
        let encode = |part: &&str| part.replace('/', "%2F");
        self.parts(name).iter().map(encode).collect::<Vec<_>>().join("/")
    }

    fn parts<'s>(&'s self, name: &'s str) -> Vec<&'s str> {
        let template = self.endpoint().paths[0].split('?').next().unwrap_or_default();
        let (host, rest) = template.split_once('/').unwrap_or_default();
        let mut parts = vec![];
        if let Some(project) = self.project() {
            parts.extend(["project", project]);
        } else if matches!(rest, "" | "deleted") {
            parts.extend(["project", name]);
        }
        if let Self::Ingest { logstore, .. } = self {
            parts.extend(["logstore", logstore]);
            return parts;
        }
        let segments: Vec<&str> = rest.split('/').filter(|segment| !segment.is_empty()).collect();
        for (index, segment) in segments.iter().enumerate() {
            let kind =
                COLLECTIONS.iter().find(|(collection, _)| collection == segment).map(|(_, kind)| *kind);
            match (kind, segments.get(index + 1)) {
                (Some(kind), Some(next)) if is_parameter(next) => {
                    parts.extend([kind, self.parameter(&next.to_lowercase()).unwrap_or_default()]);
                }
                // The tasks of a rule belong to the rule, and a put to the Logstore.
                (Some("task"), None) if segments.len() > 1 => {}
                (Some(kind), None) => parts.extend([kind, name]),
                (None, None) if host.is_empty() && parts.is_empty() => parts.push(segment),
                _ => {}
            }
        }
        parts
    }

    /// Returns true if the operation creates an object, whose name is in the body or the query.
    pub(crate) fn creates(&self) -> bool {
        self.endpoint().actions.iter().any(|action| action.contains(":Create"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(operation: Operation<'_>, name: Option<&str>) -> String {
        operation.resources(name).join(" ")
    }

    #[test]
    fn resources_are_those_of_log_service() {
        use Operation::*;
        let (project, logstore) = ("p", "l");
        for (operation, expected) in [
            (ListProjects, "project/*"),
            (CreateProject, "project/*"),
            (ListDeletedProjects, "project/*"),
            (ShowProject { project }, "project/p"),
            (RestoreProject { project }, "project/p"),
            (ListLogstores { project }, "project/p/logstore/*"),
            (ListDeletedLogstores { project }, "project/p"),
            (ShowLogstore { project, logstore }, "project/p/logstore/l"),
            (HoldLogstore { project, logstore }, "project/p/logstore/l"),
            (Put { project, logstore }, "project/p/logstore/l"),
            (Ingest { project, logstore }, "project/p/logstore/l"),
            (ListShards { project, logstore }, "project/p/logstore/l/shard/* project/p/logstore/l"),
            (Pull { project, logstore, shard: "0" }, "project/p/logstore/l/shard/0 project/p/logstore/l"),
            (ListGroups { project, logstore }, "project/p/logstore/l/consumergroup/*"),
            (Heartbeat { project, logstore, group: "g" }, "project/p/logstore/l/consumergroup/g"),
            (CreateShipper { project, logstore }, "project/p/logstore/l/shipper/* project/p/logstore/l"),
            (
                RetryRuleTasks { project, logstore, rule: "r" },
                "project/p/logstore/l/shipper/r project/p/logstore/l",
            ),
            (ListTasks { project }, "project/p/task/*"),
            (ShowTask { project, id: "1_2" }, "project/p/task/1_2"),
            (ListSources { project }, "project/p/source/*"),
            (TestNewSource { project }, "project/p/source/*"),
            (UpdateSource { project, source: "s" }, "project/p/source/s"),
            (ShowLogstore { project, logstore: "a/b" }, "project/p/logstore/a%2Fb"),
            (FetchStage { project, digest: "d" }, "project/p/stage/d"),
            (ListStages, "stage/*"),
            (ChangeStage { name: "s" }, "stage/s"),
            (ShowStore, "store"),
            (BackUpStore, "store"),
            (ShowMetrics, "metrics"),
        ] {
            assert_eq!(resources(operation, None), expected, "{operation:?}");
        }
    }

    #[test]
    fn created_objects_have_their_name() {
        use Operation::*;
        let (project, logstore) = ("p", "l");
        for (operation, expected) in [
            (CreateProject, "project/new"),
            (CreateLogstore { project }, "project/p/logstore/new"),
            (CreateGroup { project, logstore }, "project/p/logstore/l/consumergroup/new"),
            (AddStage, "stage/new"),
        ] {
            assert!(operation.creates(), "{operation:?}");
            assert_eq!(resources(operation, Some("new")), expected, "{operation:?}");
        }
        assert!(!ListProjects.creates() && !Put { project, logstore }.creates());
    }

    #[test]
    fn every_operation_with_a_key_has_an_action_and_a_resource() {
        for operation in Operation::ALL {
            let endpoint = operation.endpoint();
            let needs_none = endpoint.permission == super::super::Permission::NoKey;
            assert_eq!(endpoint.actions.is_empty(), needs_none, "{operation:?} has no action");
            if needs_none {
                continue;
            }
            for path in operation.resources(None) {
                let kind = path.split('/').next().unwrap_or_default();
                assert!(["project", "stage", "store", "metrics"].contains(&kind), "{operation:?}: {path}");
                assert!(!path.split('/').any(str::is_empty), "{operation:?}: {path}");
            }
        }
    }
}
