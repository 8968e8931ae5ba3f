//! The operations of the API, as data.
//!
//! `operations!` below has one line per operation: its request, the name by which metrics count it, the permission that
//! it needs, and the API it belongs to. Routing, permission checks, the labels of metrics and the table in
//! `docs/service.md` derive from these lines. To add an operation, add a line here and an arm in `dispatch`.

use hyper::Method;
use logship_config::stage_name::is_digest;
use logship_sls::error::{ApiError, ErrorCode};
use logship_sls::query::Query;

use Permission::{AllProjects, AnyKey, NewProject, NoKey, Project};
use logship_config::key::Access;
use logship_config::key::Access::{Admin, Read, Write};

pub mod actions;
mod resource;
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
    /// The names of its action in policies: the newest of Log Service first, or its own. Only policies use them.
    pub actions: &'static [&'static str],
}

/// Defines the operations. The first one that matches a request is its operation, so special requests precede general
/// ones.
macro_rules! operations {
    ($(
        $variant:ident $({ $($parameter:ident),+ })?:
        $method:ident $($path:literal)|+ $(if $condition:expr)?, $name:expr, $permission:expr, $api:ident
        $(, $($action:literal)|+)?;
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
                        actions: &[$($($action),+)?],
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
    ShowMetrics: GET "/metrics", "metrics", AllProjects(Read), Logship, "logship:GetMetrics";

    // The store: its generations, and decisions of its operator.
    ShowStore: GET "/store", "show store", AllProjects(Read), Logship, "logship:GetStore";
    BackUpStore: POST "/store?type=backup", "back up store", AllProjects(Admin), Logship, "logship:BackUpStore";
    ConfirmStore: POST "/store?type=confirm", "confirm store", AllProjects(Admin), Logship, "logship:ConfirmStore";

    // Stages. Rules of all projects share their names.
    ListStages: GET "/stages", "list stages", AllProjects(Read), Logship, "logship:ListStages";
    AddStage: POST "/stages", "add stage", AllProjects(Admin), Logship, "logship:CreateStage";
    ShowStage { name }: GET "/stages/NAME" if !is_digest(name), "show stage", AllProjects(Read), Logship, "logship:GetStage";
    ChangeStage { name }: PUT "/stages/NAME", "change stage", AllProjects(Admin), Logship, "logship:UpdateStage";
    RemoveStage { name }: DELETE "/stages/NAME", "remove stage", AllProjects(Admin), Logship, "logship:DeleteStage";
    FetchStage { project, digest }: GET "PROJECT/stages/DIGEST", "fetch stage", Project(Read), Logship, "logship:GetStage";

    // Projects.
    ShowProject { project }: GET "PROJECT/", "show project", Project(Read), Sls, "log:GetProject";
    ListProjects: GET "/", "list projects", AnyKey, Sls, "log:ListProject";
    CreateProject: POST "/", "create project", NewProject, Sls, "log:CreateProject";
    UpdateProject { project }: PUT "PROJECT/", "update project", Project(Admin), Sls, "log:UpdateProject";
    DeleteProject { project }: DELETE "PROJECT/", "delete project", Project(Admin), Sls, "log:DeleteProject";
    RestoreProject { project }: POST "PROJECT/restore", "restore project", Project(Admin), Logship, "logship:RestoreProject";
    ListDeletedLogstores { project }: GET "PROJECT/deleted", "list deleted logstores", Project(Read), Logship, "logship:ListDeletedLogStores";
    ListDeletedProjects: GET "/deleted", "list deleted projects", AnyKey, Logship, "logship:ListDeletedProjects";

    // Logstores.
    ListLogstores { project }: GET "PROJECT/logstores", "list logstores", Project(Read), Sls, "log:ListLogStores";
    CreateLogstore { project }: POST "PROJECT/logstores", "create logstore", Project(Admin), Sls, "log:CreateLogStore";
    ShowLogstore { project, logstore }: GET "PROJECT/logstores/LOGSTORE", "show logstore", Project(Read), Sls, "log:GetLogStore";
    UpdateLogstore { project, logstore }: PUT "PROJECT/logstores/LOGSTORE", "update logstore", Project(Admin), Sls, "log:UpdateLogStore";
    DeleteLogstore { project, logstore }: DELETE "PROJECT/logstores/LOGSTORE", "delete logstore", Project(Admin), Sls, "log:DeleteLogStore";
    RestoreLogstore { project, logstore }:
        POST "PROJECT/logstores/LOGSTORE/restore", "restore logstore", Project(Admin), Logship, "logship:RestoreLogStore";
    HoldLogstore { project, logstore }:
        PUT "PROJECT/logstores/LOGSTORE/hold", "hold logstore", Project(Admin), Logship, "logship:HoldLogStore";
    ReleaseLogstore { project, logstore }:
        DELETE "PROJECT/logstores/LOGSTORE/hold", "release logstore", AllProjects(Admin), Logship, "logship:ReleaseLogStore";

    // Logs. The Go SDK posts to the logstore itself.
    Ingest { project, logstore }: POST "/ingest/PROJECT/LOGSTORE", "ingest", Project(Write), Logship, "log:PostLogStoreLogs";
    Put { project, logstore }:
        POST "PROJECT/logstores/LOGSTORE/shards/lb" | "PROJECT/logstores/LOGSTORE/shards/route" | "PROJECT/logstores/LOGSTORE",
        "put", Project(Write), Sls, "log:PostLogStoreLogs";
    Pull { project, logstore, shard }:
        GET "PROJECT/logstores/LOGSTORE/shards/SHARD?type=log" | "PROJECT/logstores/LOGSTORE/shards/SHARD?type=logs",
        "pull", Project(Read), Sls, "log:GetCursorOrData";

    // Shards and cursors.
    ListShards { project, logstore }: GET "PROJECT/logstores/LOGSTORE/shards", "list shards", Project(Read), Sls, "log:ListShards";
    Reshard { project, logstore, shard }:
        POST "PROJECT/logstores/LOGSTORE/shards/SHARD", "split or merge", Project(Admin), Sls, "log:SplitShard" | "log:MergeShard";
    Cursor { project, logstore, shard }:
        GET "PROJECT/logstores/LOGSTORE/shards/SHARD?type=cursor", "cursor", Project(Read), Sls, "log:GetCursorOrData";
    CursorTime { project, logstore, shard }:
        GET "PROJECT/logstores/LOGSTORE/shards/SHARD?type=cursor_time", "cursor time", Project(Read), Sls, "log:GetCursorOrData";

    // Consumer groups.
    ListGroups { project, logstore }:
        GET "PROJECT/logstores/LOGSTORE/consumergroups", "list groups", Project(Read), Sls, "log:ListConsumerGroup";
    CreateGroup { project, logstore }:
        POST "PROJECT/logstores/LOGSTORE/consumergroups", "create group", Project(Read), Sls, "log:CreateConsumerGroup";
    UpdateGroup { project, logstore, group }:
        PUT "PROJECT/logstores/LOGSTORE/consumergroups/GROUP", "update group", Project(Read), Sls, "log:UpdateConsumerGroup";
    DeleteGroup { project, logstore, group }:
        DELETE "PROJECT/logstores/LOGSTORE/consumergroups/GROUP", "delete group", Project(Read), Sls, "log:DeleteConsumerGroup";
    GroupStatus { project, logstore, group }:
        GET "PROJECT/logstores/LOGSTORE/consumergroups/GROUP?type=status", "group status", Project(Read), Logship, "log:GetConsumerGroupCheckPoint" | "log:GetCheckPoint";
    Checkpoints { project, logstore, group }:
        GET "PROJECT/logstores/LOGSTORE/consumergroups/GROUP", "checkpoints", Project(Read), Sls, "log:GetConsumerGroupCheckPoint" | "log:GetCheckPoint";
    Heartbeat { project, logstore, group }:
        POST "PROJECT/logstores/LOGSTORE/consumergroups/GROUP?type=heartbeat", "heartbeat", Project(Read), Sls, "log:ConsumerGroupHeartBeat" | "log:HeartBeat";
    SaveCheckpoint { project, logstore, group }:
        POST "PROJECT/logstores/LOGSTORE/consumergroups/GROUP?type=checkpoint", "save checkpoint", Project(Read), Sls, "log:ConsumerGroupUpdateCheckPoint" | "log:UpdateCheckPoint";

    // Shipping rules: shippers, in Log Service's words.
    ListShippers { project, logstore }:
        GET "PROJECT/logstores/LOGSTORE/shipper", "list shippers", Project(Read), Sls, "log:ListShipper";
    CreateShipper { project, logstore }:
        POST "PROJECT/logstores/LOGSTORE/shipper", "create shipper", Project(Admin), Sls, "log:CreateShipper";
    ShowShipper { project, logstore, rule }:
        GET "PROJECT/logstores/LOGSTORE/shipper/RULE", "show shipper", Project(Read), Sls, "log:GetShipper";
    UpdateShipper { project, logstore, rule }:
        PUT "PROJECT/logstores/LOGSTORE/shipper/RULE", "update shipper", Project(Admin), Sls, "log:UpdateShipper";
    DeleteShipper { project, logstore, rule }:
        DELETE "PROJECT/logstores/LOGSTORE/shipper/RULE", "delete shipper", Project(Admin), Sls, "log:DeleteShipper";
    // The request may carry a component, as when a stage is added.
    PreviewStage { project, logstore, rule }:
        POST "PROJECT/logstores/LOGSTORE/shipper/RULE/trials", "try stage", AllProjects(Admin), Logship, "logship:PreviewStage";

    // Data sources: connections that jobs and rules name.
    ListSources { project }: GET "PROJECT/sources", "list sources", Project(Read), Logship, "logship:ListDataSources";
    TestNewSource { project }:
        POST "PROJECT/sources?type=test", "test source", Project(Admin), Logship, "logship:TestDataSource";
    CreateSource { project }:
        POST "PROJECT/sources", "create source", Project(Admin), Logship, "logship:CreateDataSource";
    ShowSource { project, source }:
        GET "PROJECT/sources/SOURCE", "show source", Project(Read), Logship, "logship:GetDataSource";
    UpdateSource { project, source }:
        PUT "PROJECT/sources/SOURCE", "update source", Project(Admin), Logship, "logship:UpdateDataSource";
    DeleteSource { project, source }:
        DELETE "PROJECT/sources/SOURCE", "delete source", Project(Admin), Logship, "logship:DeleteDataSource";
    TestSource { project, source }:
        POST "PROJECT/sources/SOURCE?type=test", "test source", Project(Admin), Logship, "logship:TestDataSource";

    // Tasks.
    ListRuleTasks { project, logstore, rule }:
        GET "PROJECT/logstores/LOGSTORE/shipper/RULE/tasks", "list tasks", Project(Read), Sls, "log:GetShipperStatus";
    RetryRuleTasks { project, logstore, rule }:
        PUT "PROJECT/logstores/LOGSTORE/shipper/RULE/tasks", "retry tasks", Project(Admin), Sls, "log:RetryShipperTask";
    ListTasks { project }: GET "PROJECT/tasks", "list tasks", Project(Read), Logship, "logship:ListTasks";
    RetryTasks { project }: PUT "PROJECT/tasks", "retry tasks", Project(Admin), Logship, "logship:RetryTasks";
    VerifyTask { project, id }: GET "PROJECT/tasks/ID?type=verify", "show task", Project(Read), Logship, "logship:GetTask";
    ShowTask { project, id }: GET "PROJECT/tasks/ID", "show task", Project(Read), Logship, "logship:GetTask";

    // Jobs, and their runs.
    PreviewNewJob { project }: POST "PROJECT/jobs?type=preview", "preview job", Project(Admin), Logship, "logship:PreviewJob";
    ShowNewTable { project }: POST "PROJECT/jobs?type=table", "create table", Project(Admin), Logship, "logship:CreateTable";
    ListJobs { project }: GET "PROJECT/jobs", "list jobs", Project(Read), Logship, "log:ListJobs";
    CreateJob { project }: POST "PROJECT/jobs", "create job", Project(Admin), Logship, "log:CreateJob";
    ShowJob { project, name }: GET "PROJECT/jobs/NAME", "show job", Project(Read), Logship, "log:GetJob";
    UpdateJob { project, name }: PUT "PROJECT/jobs/NAME", "update job", Project(Admin), Logship, "log:UpdateJob";
    DeleteJob { project, name }: DELETE "PROJECT/jobs/NAME", "delete job", Project(Admin), Logship, "log:DeleteJob";
    PreviewJob { project, name }: POST "PROJECT/jobs/NAME?type=preview", "preview job", Project(Admin), Logship, "logship:PreviewJob";
    CreateTable { project, name }: POST "PROJECT/jobs/NAME?type=table", "create table", Project(Admin), Logship, "logship:CreateTable";
    ListRuns { project, name }: GET "PROJECT/jobs/NAME/runs", "list runs", Project(Read), Logship, "log:GetJob";
    RunJob { project, name }: POST "PROJECT/jobs/NAME/runs", "run job", Project(Admin), Logship, "log:StartJob";
    ShowRun { project, name, id }: GET "PROJECT/jobs/NAME/runs/ID", "show run", Project(Read), Logship, "log:GetJob";
    RerunJob { project, name, id }: POST "PROJECT/jobs/NAME/runs/ID?type=rerun", "rerun job", Project(Admin), Logship, "log:StartJob";
    StopRun { project, name, id }: POST "PROJECT/jobs/NAME/runs/ID?type=stop", "stop run", Project(Admin), Logship, "log:StopJob";

    // Dead letters.
    ListDeadLetters { project }:
        GET "PROJECT/deadletters", "list dead letters", Project(Read), Logship, "logship:ListDeadLetters";
    ResendDeadLetters { project }:
        POST "PROJECT/deadletters?type=resend", "resend dead letters", Project(Admin), Logship, "logship:ResendDeadLetters";

    // Requests with an unknown `type`. They are rejected, but only after the permission check.
    UnknownRead { project, logstore, shard }:
        GET "PROJECT/logstores/LOGSTORE/shards/SHARD", UNKNOWN, Project(Read), Sls, "log:GetCursorOrData";
    UnknownGroupChange { project, logstore, group }:
        POST "PROJECT/logstores/LOGSTORE/consumergroups/GROUP", UNKNOWN, Project(Read), Sls, "log:ConsumerGroupHeartBeat" | "log:HeartBeat";
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
                | Self::TestNewSource { .. }
                | Self::TestSource { .. }
                | Self::PreviewNewJob { .. }
                | Self::PreviewJob { .. }
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
