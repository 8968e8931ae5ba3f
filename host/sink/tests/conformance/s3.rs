//! The suite against s3s-fs, a real S3 server.

use logship_config::destination::DestinationConfig;
use logship_config::object_store::ObjectStoreConfig;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::path::S3Path;
use s3s::service::S3ServiceBuilder;
use s3s::{S3Result, s3_error};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::directory::files;
use crate::object_suite::{BUCKET, Store, object_sink_tests};
use crate::server;

struct S3Server {
    folder: TempDir,
    endpoint: String,
}

/// Rejects requests to other buckets, as S3 does. s3s-fs creates their folders.
struct ExistingBuckets;

#[async_trait::async_trait]
impl S3Access for ExistingBuckets {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        let bucket = match context.s3_path() {
            S3Path::Root => return Ok(()),
            S3Path::Bucket { bucket } | S3Path::Object { bucket, .. } => bucket,
        };
        if **bucket == *BUCKET { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
    }
}

impl S3Server {
    fn config(&self, secret: &str) -> DestinationConfig {
        DestinationConfig::S3(ObjectStoreConfig {
            endpoint: self.endpoint.clone(),
            access_key_id: Some("id".into()),
            access_key_secret: Some(secret.into()),
            ..ObjectStoreConfig::default()
        })
    }
}

impl Store for S3Server {
    fn start(runtime: &Runtime) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let mut service = S3ServiceBuilder::new(FileSystem::new(folder.path()).unwrap());
        service.set_auth(SimpleAuth::from_single("id", "secret"));
        service.set_access(ExistingBuckets);
        let (listener, address) = server::listen(runtime);
        runtime.spawn(server::serve(listener, service.build()));
        Self { folder, endpoint: format!("http://{address}") }
    }

    fn config(&self) -> DestinationConfig {
        self.config("secret")
    }

    fn wrong_key(&self) -> Option<DestinationConfig> {
        Some(self.config("wrong"))
    }

    fn keys(&self) -> Vec<String> {
        files(&self.folder.path().join(BUCKET))
    }

    /// The server keeps uploads and parts beside the buckets.
    fn unfinished(&self) -> Vec<String> {
        files(self.folder.path()).into_iter().filter(|file| file.starts_with(".upload")).collect()
    }
}

object_sink_tests!(S3Server, "s3");
