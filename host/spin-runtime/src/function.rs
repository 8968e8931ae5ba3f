//! Functions: components that can be called by HTTP or with messages.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use wasmtime::component::{ComponentType, InstancePre, Lift, Lower};
use wasmtime_wasi_http::WasiBody;
use wasmtime_wasi_http::p3::bindings::ServicePre;

use crate::error::CallError;
use crate::instance::InstanceConfig;
use crate::pool::Pool;
use crate::state::State;

/// A request body, buffered or streamed.
pub type RequestBody = WasiBody;

/// A response body, streamed by its instance.
pub type ResponseBody = WasiBody;

/// A component that can be called.
#[derive(Clone)]
pub struct Function {
    config: InstanceConfig,
    permits: Arc<Semaphore>,
    pre: InstancePre<State>,
    /// `None` if the component has no HTTP handler.
    pool: Option<Pool>,
}

/// The interface that a Redis subscriber exports. [`RedisError`] mirrors its errors.
const SUBSCRIBER: &str = "spin:redis/inbound-redis@3.0.0";

#[derive(Debug, Clone, ComponentType, Lift, Lower)]
#[component(variant)]
enum RedisError {
    #[component(name = "invalid-address")]
    InvalidAddress,
    #[component(name = "too-many-connections")]
    TooManyConnections,
    #[component(name = "type-error")]
    TypeError,
    #[component(name = "other")]
    Other(String),
}

impl Function {
    pub(crate) fn new(config: InstanceConfig, pre: InstancePre<State>, permits: Arc<Semaphore>) -> Self {
        let service = ServicePre::new(pre.clone()).ok();
        let pool = service.map(|service| Pool::new(config.clone(), service));
        Self { config, permits, pre, pool }
    }

    /// Calls the function with an HTTP request, and returns its response. The response's body is read afterwards.
    ///
    /// # Errors
    /// Fails if the function traps, returns an error, or exceeds its timeout.
    pub async fn handle_request(
        &self,
        request: http::Request<RequestBody>,
    ) -> Result<http::Response<ResponseBody>, CallError> {
        let Some(pool) = &self.pool else {
            return Err(CallError::Failed("the component doesn't export wasi:http/handler@0.3.0".into()));
        };
        self.with_limits(pool.call(request)).await
    }

    /// Returns the limit of a call's time.
    pub(crate) fn timeout(&self) -> Duration {
        self.config.limits.timeout
    }

    /// Returns true if the function accepts Redis messages.
    pub fn is_subscriber(&self) -> bool {
        self.pre.component().get_export_index(None, SUBSCRIBER).is_some()
    }

    /// Calls the function with a Redis message, in an instance of its own.
    ///
    /// # Errors
    /// Fails if the function traps, returns an error, exceeds its timeout, or doesn't accept messages.
    pub async fn handle_message(&self, message: Vec<u8>) -> Result<(), CallError> {
        self.with_limits(async {
            let mut store = self.config.store();
            let instance = self.pre.instantiate_async(&mut store).await.map_err(CallError::trap)?;
            let interface = self.pre.component().get_export_index(None, SUBSCRIBER);
            let export =
                interface.and_then(|at| self.pre.component().get_export_index(Some(&at), "handle-message"));
            let export = export
                .ok_or_else(|| CallError::Failed(format!("the component doesn't export {SUBSCRIBER}")))?;
            let handle = instance
                .get_typed_func::<(Vec<u8>,), (Result<(), RedisError>,)>(&mut store, export)
                .map_err(CallError::trap)?;
            let result = store
                .run_concurrent(async |accessor| handle.call_concurrent(accessor, (message,)).await)
                .await;
            match result.flatten().map_err(CallError::trap)? {
                (Ok(()),) => Ok(()),
                (Err(RedisError::Other(text)),) => Err(CallError::Failed(text)),
                (Err(error),) => Err(CallError::Failed(format!("{error:?}"))),
            }
        })
        .await
    }

    /// Runs a call within the concurrency limit and the timeout.
    async fn with_limits<T>(&self, call: impl Future<Output = Result<T, CallError>>) -> Result<T, CallError> {
        let limited = async {
            // Never fails, as the semaphore is never closed.
            let _permit = self.permits.acquire().await;
            call.await
        };
        let timeout = self.config.limits.timeout;
        let result = tokio::time::timeout(timeout, limited).await;
        result.unwrap_or(Err(CallError::Timeout(timeout)))
    }
}
