//! Data sources of projects, across restarts and deletions.

use std::path::Path;

use logship_logstore::{Options, Store, StoreError};
use serde_json::{Value, json};

fn open(directory: &Path) -> Store {
    Store::open(directory, Options::default()).unwrap()
}

/// Returns the content of a data source, or none.
fn content(store: &Store, project: &str, name: &str) -> Option<Value> {
    let catalog = store.catalog();
    catalog.project(project).ok()?.source(name).ok().map(|source| source.content.clone())
}

#[tokio::test]
async fn sources_are_kept_and_their_names_are_unique_in_a_project() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for project in ["p", "q"] {
        store.create_project(project, "").await.unwrap();
        store.create_source(project, "s", json!({ "of": project })).await.unwrap();
    }
    let again = store.create_source("p", "s", json!({})).await;
    assert!(matches!(again, Err(StoreError::SourceExists(_))));
    let nowhere = store.create_source("r", "s", json!({})).await;
    assert!(matches!(nowhere, Err(StoreError::NoProject(_))));
    store.update_source("p", "s", json!({ "of": "p", "new": true })).await.unwrap();
    assert!(matches!(store.update_source("p", "t", json!({})).await, Err(StoreError::NoSource(_))));
    store.close();
    drop(store);
    let store = open(directory.path());
    assert_eq!(content(&store, "p", "s"), Some(json!({ "of": "p", "new": true })));
    store.delete_source("p", "s").await.unwrap();
    assert!(matches!(store.delete_source("p", "s").await, Err(StoreError::NoSource(_))));
    assert_eq!((content(&store, "p", "s"), content(&store, "q", "s")), (None, Some(json!({ "of": "q" }))));
}

#[tokio::test]
async fn sources_go_and_return_with_their_project() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.create_project("p", "").await.unwrap();
    store.create_source("p", "s", json!({ "old": true })).await.unwrap();
    store.retire_project("p", true).await.unwrap();
    store.create_project("p", "").await.unwrap();
    assert_eq!(content(&store, "p", "s"), None);
    store.create_source("p", "s", json!({ "old": false })).await.unwrap();
    store.delete_project("p").await.unwrap();
    store.restore_project("p").await.unwrap();
    assert_eq!(content(&store, "p", "s"), Some(json!({ "old": true })));
}

#[tokio::test]
async fn a_project_has_a_limited_number_of_sources() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.create_project("p", "").await.unwrap();
    for number in 0..500 {
        store.create_source("p", &format!("s{number}"), json!({})).await.unwrap();
    }
    let more = store.create_source("p", "more", json!({})).await;
    assert!(matches!(more, Err(StoreError::SourceQuota(500))));
    store.delete_source("p", "s7").await.unwrap();
    store.create_source("p", "more", json!({})).await.unwrap();
}
