//! Spin's variables from the environment, for hosts without Spin, such as `wasmtime serve`.

use crate::compose::{ComponentFile, ComposeError, Interfaces};

/// The interface of Spin's variables.
pub const VARIABLES: &str = "spin:variables/variables";

/// The component, except for the version of WASI.
const COMPONENT: &str = include_str!("environment.wat");

/// The import of the environment, without the version.
const ENVIRONMENT: &str = "wasi:cli/environment@";

/// Returns a component that exports Spin's variables and reads them from the environment: `SPIN_VARIABLE_NAME`. It
/// imports the same version of WASI as `socket`.
///
/// # Errors
/// If `socket` is not a component.
pub fn variables(socket: &ComponentFile) -> Result<ComponentFile, ComposeError> {
    let imports = Interfaces::of(socket)?.imports;
    let version = imports.iter().find_map(|import| import.strip_prefix(ENVIRONMENT)).unwrap_or("0.2.0");
    let text = COMPONENT.replace("VERSION", version);
    let bytes = wat::parse_str(text).map_err(|error| ComposeError::Graph(error.to_string()))?;
    Ok(ComponentFile { path: "the variables from the environment".into(), bytes })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use wasmtime::component::{Component, Linker, ResourceTable};
    use wasmtime::{Config, Engine, Store};
    use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

    use super::*;

    struct State(WasiCtx, ResourceTable);

    impl WasiView for State {
        fn ctx(&mut self) -> WasiCtxView<'_> {
            WasiCtxView { ctx: &mut self.0, table: &mut self.1 }
        }
    }

    #[derive(Debug, PartialEq, wasmtime::component::ComponentType, wasmtime::component::Lift)]
    #[component(variant)]
    enum Error {
        #[component(name = "invalid-name")]
        InvalidName(String),
        #[component(name = "undefined")]
        Undefined(String),
        #[component(name = "provider")]
        Provider(String),
        #[component(name = "other")]
        Other(String),
    }

    #[tokio::test]
    async fn reads_variables_from_environment() {
        let empty = wat::parse_str("(component)").unwrap();
        let component = variables(&ComponentFile { path: Path::new("x").into(), bytes: empty }).unwrap();
        let engine = Engine::new(Config::new().wasm_component_model_async(true)).unwrap();
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).unwrap();
        let long = "x".repeat(300_000);
        let mut wasi = WasiCtx::builder();
        wasi.env("SPIN_VARIABLE_RULES", &long)
            .env("SPIN_VARIABLE_RULE", "é{}")
            .env("SPIN_VARIABLE_S3_KEY_1", "");
        wasi.env("RULES", "no").env("XSPIN_VARIABLE_RULES", "no").env("", "");
        let mut store = Store::new(&engine, State(wasi.build(), ResourceTable::new()));
        let component = Component::new(&engine, component.bytes).unwrap();
        let instance = linker.instantiate_async(&mut store, &component).await.unwrap();
        let interface = instance.get_export_index(&mut store, None, "spin:variables/variables@3.0.0");
        let get = instance.get_export_index(&mut store, interface.as_ref(), "get").unwrap();
        let get = instance.get_typed_func::<(&str,), (Result<String, Error>,)>(&mut store, get).unwrap();
        let undefined = |name: &str| Err(Error::Undefined(name.to_owned()));
        for _ in 0..3000 {
            for (name, expected) in [
                ("rule", Ok("é{}".to_owned())),
                ("s3_key_1", Ok(String::new())),
                ("rul", undefined("rul")),
                ("", undefined("")),
                ("rules_of_another", undefined("rules_of_another")),
            ] {
                assert_eq!(get.call_async(&mut store, (name,)).await.unwrap().0, expected, "{name}");
            }
        }
        assert_eq!(get.call_async(&mut store, ("rules",)).await.unwrap().0, Ok(long));
    }
}
