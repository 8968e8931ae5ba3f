//! The operations of the API, as data.
//!
//! `operations!` below has one line per operation: its request, the name by which metrics count it, the permission that
//! it needs, and the API it belongs to. Routing, permission checks, the labels of metrics and the table in
//! `docs/service.md` derive from these lines. To add an operation, add a line here and an arm in `dispatch`.

use hyper::Method;
use logship_config::stage_name::is_digest;
use logship_sls::error::{ApiError, ErrorCode};
use logship_sls::query::Query;

use crate::keys::Access;
use crate::keys::Access::{Admin, Read, Write};
use Permission::{AllProjects, AnyKey, NewProject, NoKey, Project};

#[cfg(test)]
mod tests;

/// The name of requests that are no operation.
pub const UNKNOWN: &str = "unknown";

/// The most parameters of an operation.
const MAX_PARAMETERS: usize = 3;

/// The permission that an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// No key.
    NoKey,
    /// Any valid key. The reply has only what the key may see.
    AnyKey,
    /// Access to the project of the request.
    Project(Access),
    /// Admin access to the project that the body names. The handler checks it.
    NewProject,
    /// Access to all projects.
    AllProjects(Access),
}

/// The API that an operation belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// The API of Log Service.
    Sls,
    /// An extension of logship.
    Logship,
}

/// The description of an operation.
#[derive(Debug)]
pub struct Endpoint {
    /// The name, which metrics and logs have as `operation`.
    pub name: &'static str,
    /// The HTTP method, or `ANY`.
    pub method: &'static str,
    /// The paths, as in `PROJECT/tasks/ID?type=verify`. Words in capitals are parameters. A path that begins with
    /// `PROJECT` needs a project in the host name. `type` is the only query parameter that selects an operation.
    pub paths: &'static [&'static str],
    /// The permission that it needs.
    pub permission: Permission,
    /// The API that it belongs to.
    pub api: Api,
}

/// Defines the operations. The first one that matches a request is its operation, so special requests precede general
/// ones.
macro_rules! operations {
    ($(
        $variant:ident $({ $($parameter:ident),+ })?:
        $method:ident $($path:literal)|+ $(if $condition:expr)?, $name:expr, $permission:expr, $api:ident;
    )+) => {
        /// An operation, with the parameters of its path.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Operation<'a> {
            $(
                #[doc = concat!(stringify!($method) $(, " `", $path, "`")+, ".")]
                $variant $({
                    $(
                        #[doc = concat!("The parameter ", stringify!($parameter), ".")]
                        $parameter: &'a str
                    ),+
                })?
            ),+
        }

        impl<'a> Operation<'a> {
            /// All operations. The value of each parameter is its name.
            pub const ALL: &'static [Operation<'static>] = &[
                $(Operation::$variant $({ $($parameter: stringify!($parameter)),+ })?),+
            ];

            /// Returns the description of the operation.
            pub fn endpoint(&self) -> &'static Endpoint {
                match self {
                    $(Self::$variant { .. } => &Endpoint {
                        name: $name,
                        method: stringify!($method),
                        paths: &[$($path),+],
                        permission: $permission,
                        api: Api::$api,
                    }),+
                }
            }

            /// Returns the parameters' names and values, in the order of the path.
            fn parameters(&self) -> Vec<(&'static str, &'a str)> {
                match *self {
                    $(Self::$variant $({ $($parameter),+ })? => {
                        vec![$($((stringify!($parameter), $parameter)),+)?]
                    })+
                }
            }

            /// Finds the operation of a request with the query parameter `type`.
            fn find(method: &str, project: Option<&'a str>, path: &'a [String], kind: &str) -> Option<Self> {
                $(if method == stringify!($method) {
                    for template in [$($path),+] {
                        if let Some([$($($parameter,)+)? ..]) = values(template, project, path, kind)
                            $(&& $condition)?
                        {
                            return Some(Self::$variant $({ $($parameter),+ })?);
                        }
                    }
                })+
                None
            }
        }
    };
}

operations! {
    // State of the service.
    Health: ANY "/healthz", "health", NoKey, Logship;
    Ready: ANY "/readyz", "ready", NoKey, Logship;
    ShowMetrics: GET "/metrics", "metrics", AllProjects(Read), Logship;

    // The store: its generations, and decisions of its operator.
    ShowStore: GET "/store", "show store", AllProjects(Read), Logship;
    BackUpStore: POST "/store?type=backup", "back up store", AllProjects(Admin), Logship;
    ConfirmStore: POST "/store?type=confirm", "confirm store", AllProjects(Admin), Logship;

    // Stages. Rules of all projects share their names.
    ListStages: GET "/stages", "list stages", AllProjects(Read), Logship;
    AddStage: POST "/stages", "add stage", AllProjects(Admin), Logship;
    ShowStage { name }: GET "/stages/NAME" if !is_digest(name), "show stage", AllProjects(Read), Logship;
    ChangeStage { name }: PUT "/stages/NAME", "change stage", AllProjects(Admin), Logship;
    RemoveStage { name }: DELETE "/stages/NAME", "remove stage", AllProjects(Admin), Logship;
    FetchStage { project, digest }: GET "PROJECT/stages/DIGEST", "fetch stage", Project(Read), Logship;

    // Projects.
    ShowProject { project }: GET "PROJECT/", "show project", Project(Read), Sls;
    ListProjects: GET "/", "list projects", AnyKey, Sls;
    CreateProject: POST "/", "create project", NewProject, Sls;
    UpdateProject { project }: PUT "PROJECT/", "update project", Project(Admin), Sls;
    DeleteProject { project }: DELETE "PROJECT/", "delete project", Project(Admin), Sls;
    RestoreProject { project }: POST "PROJECT/restore", "restore project", Project(Admin), Logship;
    ListDeletedLogstores { project }: GET "PROJECT/deleted", "list deleted logstores", Project(Read), Logship;
    ListDeletedProjects: GET "/deleted", "list deleted projects", AnyKey, Logship;

    // Logstores.
    ListLogstores { project }: GET "PROJECT/logstores", "list logstores", Project(Read), Sls;
    CreateLogstore { project }: POST "PROJECT/logstores", "create logstore", Project(Admin), Sls;
    ShowLogstore { project, logstore }: GET "PROJECT/logstores/LOGSTORE", "show logstore", Project(Read), Sls;
    UpdateLogstore { project, logstore }: PUT "PROJECT/logstores/LOGSTORE", "update logstore", Project(Admin), Sls;
    DeleteLogstore { project, logstore }: DELETE "PROJECT/logstores/LOGSTORE", "delete logstore", Project(Admin), Sls;
    RestoreLogstore { project, logstore }:
        POST "PROJECT/logstores/LOGSTORE/restore", "restore logstore", Project(Admin), Logship;
    HoldLogstore { project, logstore }:
        PUT "PROJECT/logstores/LOGSTORE/hold", "hold logstore", Project(Admin), Logship;
    ReleaseLogstore { project, logstore }:
        DELETE "PROJECT/logstores/LOGSTORE/hold", "release logstore", AllProjects(Admin), Logship;

    // Logs. The Go SDK posts to the logstore itself.
    Ingest { project, logstore }: POST "/ingest/PROJECT/LOGSTORE", "ingest", Project(Write), Logship;
    Put { project, logstore }:
        POST "PROJECT/logstores/LOGSTORE/shards/lb" | "PROJECT/logstores/LOGSTORE/shards/route" | "PROJECT/logstores/LOGSTORE",
        "put", Project(Write), Sls;
    Pull { project, logstore, shard }:
        GET "PROJECT/logstores/LOGSTORE/shards/SHARD?type=log" | "PROJECT/logstores/LOGSTORE/shards/SHARD?type=logs",
        "pull", Project(Read), Sls;

    // Shards and cursors.
    ListShards { project, logstore }: GET "PROJECT/logstores/LOGSTORE/shards", "list shards", Project(Read), Sls;
    Reshard { project, logstore, shard }:
        POST "PROJECT/logstores/LOGSTORE/shards/SHARD", "split or merge", Project(Admin), Sls;
    Cursor { project, logstore, shard }:
        GET "PROJECT/logstores/LOGSTORE/shards/SHARD?type=cursor", "cursor", Project(Read), Sls;
    CursorTime { project, logstore, shard }:
        GET "PROJECT/logstores/LOGSTORE/shards/SHARD?type=cursor_time", "cursor time", Project(Read), Sls;

    // Consumer groups.
    ListGroups { project, logstore }:
        GET "PROJECT/logstores/LOGSTORE/consumergroups", "list groups", Project(Read), Sls;
    CreateGroup { project, logstore }:
        POST "PROJECT/logstores/LOGSTORE/consumergroups", "create group", Project(Read), Sls;
    UpdateGroup { project, logstore, group }:
        PUT "PROJECT/logstores/LOGSTORE/consumergroups/GROUP", "update group", Project(Read), Sls;
    DeleteGroup { project, logstore, group }:
        DELETE "PROJECT/logstores/LOGSTORE/consumergroups/GROUP", "delete group", Project(Read), Sls;
    GroupStatus { project, logstore, group }:
        GET "PROJECT/logstores/LOGSTORE/consumergroups/GROUP?type=status", "group status", Project(Read), Logship;
    Checkpoints { project, logstore, group }:
        GET "PROJECT/logstores/LOGSTORE/consumergroups/GROUP", "checkpoints", Project(Read), Sls;
    Heartbeat { project, logstore, group }:
        POST "PROJECT/logstores/LOGSTORE/consumergroups/GROUP?type=heartbeat", "heartbeat", Project(Read), Sls;
    SaveCheckpoint { project, logstore, group }:
        POST "PROJECT/logstores/LOGSTORE/consumergroups/GROUP?type=checkpoint", "save checkpoint", Project(Read), Sls;

    // Shipping rules: shippers, in Log Service's words.
    ListShippers { project, logstore }:
        GET "PROJECT/logstores/LOGSTORE/shipper", "list shippers", Project(Read), Sls;
    CreateShipper { project, logstore }:
        POST "PROJECT/logstores/LOGSTORE/shipper", "create shipper", Project(Admin), Sls;
    ShowShipper { project, logstore, rule }:
        GET "PROJECT/logstores/LOGSTORE/shipper/RULE", "show shipper", Project(Read), Sls;
    UpdateShipper { project, logstore, rule }:
        PUT "PROJECT/logstores/LOGSTORE/shipper/RULE", "update shipper", Project(Admin), Sls;
    DeleteShipper { project, logstore, rule }:
        DELETE "PROJECT/logstores/LOGSTORE/shipper/RULE", "delete shipper", Project(Admin), Sls;
    // The request may carry a component, as when a stage is added.
    PreviewStage { project, logstore, rule }:
        POST "PROJECT/logstores/LOGSTORE/shipper/RULE/trials", "try stage", AllProjects(Admin), Logship;

    // Tasks.
    ListRuleTasks { project, logstore, rule }:
        GET "PROJECT/logstores/LOGSTORE/shipper/RULE/tasks", "list tasks", Project(Read), Sls;
    RetryRuleTasks { project, logstore, rule }:
        PUT "PROJECT/logstores/LOGSTORE/shipper/RULE/tasks", "retry tasks", Project(Admin), Sls;
    ListTasks { project }: GET "PROJECT/tasks", "list tasks", Project(Read), Logship;
    RetryTasks { project }: PUT "PROJECT/tasks", "retry tasks", Project(Admin), Logship;
    VerifyTask { project, id }: GET "PROJECT/tasks/ID?type=verify", "show task", Project(Read), Logship;
    ShowTask { project, id }: GET "PROJECT/tasks/ID", "show task", Project(Read), Logship;

    // Requests with an unknown `type`. They are rejected, but only after the permission check.
    UnknownRead { project, logstore, shard }:
        GET "PROJECT/logstores/LOGSTORE/shards/SHARD", UNKNOWN, Project(Read), Sls;
    UnknownGroupChange { project, logstore, group }:
        POST "PROJECT/logstores/LOGSTORE/consumergroups/GROUP", UNKNOWN, Project(Read), Sls;
}

impl<'a> Operation<'a> {
    /// Parses a request: its method, the project of its host name, the decoded segments of its path, and its query.
    ///
    /// # Errors
    /// Fails if the request is no operation, or needs a project and has none.
    pub fn parse(
        method: &Method,
        project: Option<&'a str>,
        path: &'a [String],
        query: &Query,
    ) -> Result<Self, ApiError> {
        let kind = query.get("type").unwrap_or_default();
        let found = Self::find(method.as_str(), project, path, kind);
        found.filter(|operation| operation.permission() != NoKey).ok_or_else(|| {
            let message = match project {
                Some(_) => format!("{method} /{} is not a request of this API", path.join("/")),
                None => {
                    "the request has no project: put it before the host name, as in PROJECT.logs.example.org"
                        .into()
                }
            };
            ApiError::new(ErrorCode::ParameterInvalid, message)
        })
    }

    /// Returns the operation of a request that needs no key, by its path.
    pub fn without_key(path: &str, open_metrics: bool) -> Option<Self> {
        match path {
            "/healthz" => Some(Self::Health),
            "/readyz" => Some(Self::Ready),
            "/metrics" if open_metrics => Some(Self::ShowMetrics),
            _ => None,
        }
    }

    /// Returns true if the body of a request may be a component. `path` is not decoded.
    pub fn takes_component(method: &Method, path: &str) -> bool {
        method == Method::POST && (path == "/stages" || path.ends_with("/trials"))
    }

    /// Returns the name, which metrics and logs have as `operation`.
    pub fn name(&self) -> &'static str {
        self.endpoint().name
    }

    /// Returns the permission that the operation needs.
    pub fn permission(&self) -> Permission {
        self.endpoint().permission
    }

    /// Returns the project of the operation, if it has one.
    pub fn project(&self) -> Option<&'a str> {
        self.parameter("project")
    }

    /// Returns a parameter of the path, if the operation has it.
    pub fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters().into_iter().find(|(parameter, _)| *parameter == name).map(|(_, value)| value)
    }

    /// Returns true if the operation changes something that the audit log records. Logs and heartbeats are not recorded,
    /// and a preview changes nothing.
    pub fn is_change(&self) -> bool {
        let is_read = matches!(self.endpoint().method, "GET" | "ANY");
        let is_unrecorded = matches!(
            self,
            Self::Put { .. }
                | Self::Ingest { .. }
                | Self::Heartbeat { .. }
                | Self::PreviewStage { .. }
                | Self::UnknownGroupChange { .. }
        );
        !is_read && !is_unrecorded
    }
}

/// Returns the values of a template's parameters, or none if the request does not match it.
fn values<'a>(
    template: &str,
    project: Option<&'a str>,
    path: &'a [String],
    kind: &str,
) -> Option<[&'a str; MAX_PARAMETERS]> {
    let (template, query) = template.split_once('?').unwrap_or((template, ""));
    if !query.is_empty() && query.strip_prefix("type=") != Some(kind) {
        return None;
    }
    let mut values = [""; MAX_PARAMETERS];
    let mut unset = values.iter_mut();
    let (host, template) = template.split_once('/')?;
    if is_parameter(host) {
        *unset.next()? = project?;
    }
    let mut segments = path.iter();
    for expected in template.split('/').filter(|expected| !expected.is_empty()) {
        let segment = segments.next()?;
        if is_parameter(expected) {
            *unset.next()? = segment;
        } else if segment != expected {
            return None;
        }
    }
    segments.next().is_none().then_some(values)
}

/// Returns true if a part of a template is a parameter.
fn is_parameter(part: &str) -> bool {
    part.starts_with(|letter: char| letter.is_ascii_uppercase())
}
