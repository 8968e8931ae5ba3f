//! The names of actions in policies.

use logship_config::policy::{Policy, PolicyError};

use super::Operation;

/// Actions of Log Service that no operation of this API has. A policy may name them, and they allow nothing here.
const OF_LOG_SERVICE_ONLY: &[&str] = &[
    "log:AnalyzeProductLog",
    "log:ApplyConfigToGroup",
    "log:ApplyConfigToMachineGroup",
    "log:BatchPostLogStoreLogs",
    "log:ChangeResourceGroup",
    "log:CreateAlert",
    "log:CreateApp",
    "log:CreateConfig",
    "log:CreateDashboard",
    "log:CreateDomain",
    "log:CreateEtlJob",
    "log:CreateExternalStore",
    "log:CreateIndex",
    "log:CreateLogtailPipelineConfig",
    "log:CreateMachineGroup",
    "log:CreateMetricStore",
    "log:CreateSavedSearch",
    "log:CreateTag",
    "log:DeleteAlert",
    "log:DeleteApp",
    "log:DeleteConfig",
    "log:DeleteDashboard",
    "log:DeleteDomain",
    "log:DeleteEtlJob",
    "log:DeleteExternalStore",
    "log:DeleteIndex",
    "log:DeleteLogtailPipelineConfig",
    "log:DeleteMachineGroup",
    "log:DeleteProjectQuery",
    "log:DeleteSavedSearch",
    "log:DeleteTag",
    "log:GetAlert",
    "log:GetApp",
    "log:GetAppliedConfigs",
    "log:GetAppliedMachineGroups",
    "log:GetConfig",
    "log:GetDashboard",
    "log:GetEtlJob",
    "log:GetExternalStore",
    "log:GetIndex",
    "log:GetLogStoreContextLogs",
    "log:GetLogStoreHistogram",
    "log:GetLogStoreLogs",
    "log:GetLogStoreMeteringMode",
    "log:GetLogtailPipelineConfig",
    "log:GetMachineGroup",
    "log:GetProjectLogs",
    "log:GetProjectQuery",
    "log:GetSavedSearch",
    "log:ListAlerts",
    "log:ListApps",
    "log:ListConfig",
    "log:ListDashboard",
    "log:ListDomains",
    "log:ListEtlJob",
    "log:ListExternalStore",
    "log:ListLogtailPipelineConfig",
    "log:ListMachineGroup",
    "log:ListMachines",
    "log:ListSavedSearch",
    "log:ListTagResources",
    "log:OpenProductDataCollection",
    "log:PostProjectQuery",
    "log:PutProjectQuery",
    "log:RemoveConfigFromGroup",
    "log:RemoveConfigFromMachineGroup",
    "log:TagResources",
    "log:UntagResources",
    "log:UpdateAlert",
    "log:UpdateApp",
    "log:UpdateConfig",
    "log:UpdateDashboard",
    "log:UpdateEtlJob",
    "log:UpdateExternalStore",
    "log:UpdateIndex",
    "log:UpdateLogStoreMeteringMode",
    "log:UpdateLogtailPipelineConfig",
    "log:UpdateMachineGroup",
    "log:UpdateSavedSearch",
];

/// Returns the actions that operations of this API have.
fn of_operations() -> impl Iterator<Item = &'static str> {
    Operation::ALL.iter().flat_map(|operation| operation.endpoint().actions).copied()
}

/// Checks that each pattern of a policy names a known action.
///
/// # Errors
/// Names the first pattern that names none.
pub fn check(policy: &Policy) -> Result<(), PolicyError> {
    let is_known = |pattern: &&str| {
        let mut all = of_operations().chain(OF_LOG_SERVICE_ONLY.iter().copied());
        all.any(|action| Policy::names(pattern, action))
    };
    match policy.actions().find(|pattern| !is_known(pattern)) {
        None => Ok(()),
        Some(pattern) => Err(PolicyError(format!(
            "{pattern:?} is no action: the table in docs/service.md lists all; actions of other services than log and logship are not accepted"
        ))),
    }
}

/// Returns the patterns of a policy that name only actions which no operation of this API has.
pub fn without_operation(policy: &Policy) -> Vec<String> {
    let has_operation = |pattern: &&str| of_operations().any(|action| Policy::names(pattern, action));
    policy.actions().filter(|pattern| !has_operation(pattern)).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(action: &str) -> Policy {
        let statement = format!(r#"{{"Effect": "Allow", "Action": "{action}", "Resource": "*"}}"#);
        Policy::parse(&format!(r#"{{"Version": "1", "Statement": [{statement}]}}"#)).unwrap()
    }

    #[test]
    fn known_actions_are_accepted_in_any_case() {
        for action in
            ["*", "log:*", "log:Get*", "log:getcursorordata", "log:CreateDashboard", "logship:GetStage"]
        {
            check(&policy(action)).unwrap();
        }
    }

    #[test]
    fn unknown_actions_are_rejected_by_name() {
        for action in ["log:GetCursor", "log:Delet", "log:x*", "ram:PassRole", "oss:*", "logship:Everything"]
        {
            let error = check(&policy(action)).unwrap_err().to_string();
            assert!(error.contains(action), "{error}");
        }
    }

    #[test]
    fn finds_actions_without_operation() {
        assert_eq!(without_operation(&policy("log:GetIndex")), ["log:GetIndex"]);
        assert!(without_operation(&policy("log:Get*")).is_empty());
    }

    #[test]
    fn actions_of_log_service_only_have_no_operation() {
        for action in OF_LOG_SERVICE_ONLY {
            assert!(of_operations().all(|known| !known.eq_ignore_ascii_case(action)), "{action}");
        }
    }
}
