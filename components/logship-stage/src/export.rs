//! Implements the worlds of `wit/` with the traits of the crate root.
#![allow(missing_docs)]

use std::cell::RefCell;
use std::marker::PhantomData;

use crate::bindings::compressor::exports::logship::compress::compressor as wit_compress;
use crate::bindings::encoder::exports::logship::encode::encoder as wit_encode;
use crate::bindings::formatter::exports::logship::siem::formatter as wit_siem;
use crate::bindings::losses::exports::logship::losses::losses as wit_losses;
use crate::bindings::renderer::exports::logship::object_path::renderer as wit_path;
use crate::bindings::row_encoder::exports::logship::rows::row_encoder as wit_rows;
use crate::bindings::transformer::exports::logship::transform::transformer as wit_transform;
use crate::losses;
use crate::{Batch, Compressor, Encoder, Error, Formatter, Loss, Renderer, RowEncoder, Transformer};

/// The component that an [`Encoder`] becomes.
#[derive(Debug)]
pub struct EncoderComponent<E>(PhantomData<E>);

/// A stage's state as the world's resource. Calls on it are never nested.
#[derive(Debug)]
pub struct Object<T>(RefCell<T>);

impl<E: Encoder> wit_encode::Guest for EncoderComponent<E> {
    type Object = Object<E>;

    fn describe() -> wit_encode::Description {
        E::describe()
    }
}

impl<E: Encoder> wit_encode::GuestObject for Object<E> {
    fn open(config: String) -> Result<wit_encode::Object, wit_encode::Error> {
        if config == losses::QUESTION {
            let (path, reason) = (losses::PATH.to_owned(), losses::to_json(&LOSSES.take()));
            return Err(wit_encode::Error::InvalidConfig(wit_encode::ConfigProblem { path, reason }));
        }
        Ok(wit_encode::Object::new(Self(RefCell::new(E::open(&config)?))))
    }

    fn push(&self, batch: wit_encode::LogBatch) -> Result<Vec<u8>, wit_encode::Error> {
        let mut encoder = self.0.borrow_mut();
        let bytes = encoder.push(&Batch::new(batch)?)?;
        LOSSES.with_borrow_mut(|losses| losses.extend(encoder.take_losses()));
        Ok(bytes)
    }

    fn size(&self) -> u64 {
        self.0.borrow().size()
    }

    fn finish(object: wit_encode::Object) -> Result<Vec<u8>, wit_encode::Error> {
        Ok(object.into_inner::<Self>().0.into_inner().finish()?)
    }
}

thread_local! {
    /// The lost values of all objects of the instance, until the host takes them.
    static LOSSES: RefCell<Vec<Loss>> = const { RefCell::new(vec![]) };
}

/// The component that reports the lost values of an [`Encoder`].
#[derive(Debug)]
pub struct LossesComponent;

impl wit_losses::Guest for LossesComponent {
    fn take() -> Vec<Loss> {
        LOSSES.take()
    }
}

impl From<Error> for wit_encode::Error {
    fn from(error: Error) -> Self {
        match error {
            error @ (Error::InvalidConfig { .. } | Error::InvalidTable { .. }) => {
                let (path, reason) = error.config_problem();
                Self::InvalidConfig(wit_encode::ConfigProblem { path, reason })
            }
            Error::InvalidBatch(invariant) => Self::InvalidBatch(invariant),
            Error::Rejected { log, reason } => Self::Rejected(wit_encode::Rejection { log, reason }),
            Error::TooLarge(reason) => Self::TooLarge(reason),
        }
    }
}

/// The component for a type that implements [`Encoder`].
#[derive(Debug)]
pub struct CompressorComponent<C>(PhantomData<C>);

impl<C: Compressor> wit_compress::Guest for CompressorComponent<C> {
    type Object = Object<C>;

    fn describe() -> wit_compress::Description {
        C::describe()
    }
}

impl<C: Compressor> wit_compress::GuestObject for Object<C> {
    fn open(config: String) -> Result<wit_compress::Object, wit_compress::Error> {
        Ok(wit_compress::Object::new(Self(RefCell::new(C::open(&config)?))))
    }

    fn push(&self, bytes: Vec<u8>) -> Result<Vec<u8>, wit_compress::Error> {
        Ok(self.0.borrow_mut().push(&bytes)?)
    }

    fn finish(object: wit_compress::Object) -> Result<wit_compress::Ending, wit_compress::Error> {
        Ok(object.into_inner::<Self>().0.into_inner().finish()?)
    }
}

impl From<Error> for wit_compress::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidConfig { path, reason } => {
                Self::InvalidConfig(wit_compress::ConfigProblem { path, reason })
            }
            // A compressor knows neither batches nor logs, so any other error concerns its object.
            other => Self::TooLarge(other.to_string()),
        }
    }
}

/// The component for a type that implements [`Compressor`].
#[derive(Debug)]
pub struct RendererComponent<R>(PhantomData<R>);

impl<R: Renderer> wit_path::Guest for RendererComponent<R> {
    fn describe() -> wit_path::Description {
        R::describe()
    }

    fn render(config: String, request: wit_path::Request) -> Result<String, wit_path::Error> {
        R::render(&config, &request).map_err(|error| {
            let (path, reason) = match error {
                Error::InvalidConfig { path, reason } => (path, reason),
                other => (String::new(), other.to_string()),
            };
            wit_path::Error::InvalidConfig(wit_path::ConfigProblem { path, reason })
        })
    }
}

/// The component for a type that implements [`Renderer`].
#[derive(Debug)]
pub struct FormatterComponent<F>(PhantomData<F>);

impl<F: Formatter> wit_siem::Guest for FormatterComponent<F> {
    type Session = Object<F>;

    fn describe() -> wit_siem::Description {
        F::describe()
    }
}

impl<F: Formatter> wit_siem::GuestSession for Object<F> {
    fn open(config: String) -> Result<wit_siem::Session, wit_siem::Error> {
        Ok(wit_siem::Session::new(Self(RefCell::new(F::open(&config)?))))
    }

    fn push(&self, batch: wit_siem::LogBatch) -> Result<wit_siem::Messages, wit_siem::Error> {
        Ok(self.0.borrow_mut().push(&Batch::new(batch)?)?)
    }
}

impl From<Error> for wit_siem::Error {
    fn from(error: Error) -> Self {
        match error {
            error @ (Error::InvalidConfig { .. } | Error::InvalidTable { .. }) => {
                let (path, reason) = error.config_problem();
                Self::InvalidConfig(wit_siem::ConfigProblem { path, reason })
            }
            Error::InvalidBatch(invariant) => Self::InvalidBatch(invariant),
            Error::Rejected { log, reason } => Self::Rejected(wit_siem::Rejection { log, reason }),
            // A formatter has no object that can be too large, so the error concerns the batch.
            Error::TooLarge(reason) => Self::Rejected(wit_siem::Rejection { log: 0, reason }),
        }
    }
}

/// The component for a type that implements [`RowEncoder`].
#[derive(Debug)]
pub struct RowEncoderComponent<R>(PhantomData<R>);

impl<R: RowEncoder> wit_rows::Guest for RowEncoderComponent<R> {
    type Session = Object<R>;

    fn describe() -> wit_rows::Description {
        R::describe()
    }
}

impl<R: RowEncoder> wit_rows::GuestSession for Object<R> {
    fn open(config: String, table: wit_rows::Table) -> Result<wit_rows::Session, wit_rows::Error> {
        Ok(wit_rows::Session::new(Self(RefCell::new(R::open(&config, &table)?))))
    }

    fn push(
        &self,
        batch: wit_rows::LogBatch,
        positions: wit_rows::Positions,
    ) -> Result<wit_rows::Rows, wit_rows::Error> {
        let batch = Batch::new(batch)?;
        let wit_rows::Positions { cursors, indexes, receive_times, .. } = &positions;
        if [cursors.len(), indexes.len(), receive_times.len()] != [batch.len(); 3] {
            let invariant = "cursors, indexes and receive-times have not one element per log";
            return Err(wit_rows::Error::InvalidBatch(invariant.to_owned()));
        }
        Ok(self.0.borrow_mut().push(&batch, &positions)?)
    }

    fn finish(session: wit_rows::Session) -> Result<Vec<u8>, wit_rows::Error> {
        Ok(session.into_inner::<Self>().0.into_inner().finish()?)
    }
}

impl From<Error> for wit_rows::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::InvalidConfig { path, reason } => {
                Self::InvalidConfig(wit_rows::ConfigProblem { path, reason })
            }
            Error::InvalidTable { column, reason } => {
                Self::InvalidTable(wit_rows::TableProblem { column, reason })
            }
            Error::InvalidBatch(invariant) => Self::InvalidBatch(invariant),
            // A row encoder reports logs without rows as dirty values, so any other error concerns the batch.
            other => Self::InvalidBatch(other.to_string()),
        }
    }
}

/// The component for a type that implements [`Transformer`].
#[derive(Debug)]
pub struct TransformerComponent<T>(PhantomData<T>);

impl<T: Transformer> wit_transform::Guest for TransformerComponent<T> {
    type Session = Object<T>;

    fn describe() -> wit_transform::Description {
        T::describe()
    }
}

impl<T: Transformer> wit_transform::GuestSession for Object<T> {
    fn open(config: String) -> Result<wit_transform::Session, wit_transform::Error> {
        Ok(wit_transform::Session::new(Self(RefCell::new(T::open(&config)?))))
    }

    fn push(
        &self,
        batch: wit_transform::LogBatch,
    ) -> Result<wit_transform::Transformed, wit_transform::Error> {
        Ok(self.0.borrow_mut().push(Batch::new(batch)?)?)
    }
}

impl From<Error> for wit_transform::Error {
    fn from(error: Error) -> Self {
        match error {
            error @ (Error::InvalidConfig { .. } | Error::InvalidTable { .. }) => {
                let (path, reason) = error.config_problem();
                Self::InvalidConfig(wit_transform::ConfigProblem { path, reason })
            }
            Error::InvalidBatch(invariant) => Self::InvalidBatch(invariant),
            Error::Rejected { log, reason } => Self::Rejected(wit_transform::Rejection { log, reason }),
            // A transformer has no object that can be too large, so the error concerns the batch.
            Error::TooLarge(reason) => Self::Rejected(wit_transform::Rejection { log: 0, reason }),
        }
    }
}

/// Exports the crate as a component of the world `encoder` with a type that implements
/// [`Encoder`]. Does nothing on other targets than WebAssembly, so that native tests can use the crate.
#[macro_export]
macro_rules! export_encoder {
    ($type:ident) => {
        $crate::export_world!($type, EncoderComponent, encoder, export_encoder_world);
    };
}

/// Exports the crate as a component of the world `reporting-encoder` with a type that implements
/// [`Encoder`] and its method `take_losses`. Does nothing on other targets than WebAssembly.
#[macro_export]
macro_rules! export_reporting_encoder {
    ($type:ident) => {
        $crate::export_encoder!($type);

        #[cfg(target_arch = "wasm32")]
        mod losses_component {
            type Component = $crate::LossesComponent;
            $crate::bindings::losses::export_losses_world!(
                Component with_types_in $crate::bindings::losses
            );
        }
    };
}

/// Exports the crate as a component of the world `compressor` with a type that implements
/// [`Compressor`]. Does nothing on other targets than WebAssembly.
#[macro_export]
macro_rules! export_compressor {
    ($type:ident) => {
        $crate::export_world!($type, CompressorComponent, compressor, export_compressor_world);
    };
}

/// Exports the crate as a component of the world `renderer` with a type that implements
/// [`Renderer`]. Does nothing on other targets than WebAssembly.
#[macro_export]
macro_rules! export_renderer {
    ($type:ident) => {
        $crate::export_world!($type, RendererComponent, renderer, export_renderer_world);
    };
}

/// Exports the crate as a component of the world `formatter` with a type that implements
/// [`Formatter`]. Does nothing on other targets than WebAssembly.
#[macro_export]
macro_rules! export_formatter {
    ($type:ident) => {
        $crate::export_world!($type, FormatterComponent, formatter, export_formatter_world);
    };
}

/// Exports the crate as a component of the world `row-encoder` with a type that implements
/// [`RowEncoder`]. Does nothing on other targets than WebAssembly.
#[macro_export]
macro_rules! export_row_encoder {
    ($type:ident) => {
        $crate::export_world!($type, RowEncoderComponent, row_encoder, export_row_encoder_world);
    };
}

/// Exports the crate as a component of the world `transformer` with a type that implements
/// [`Transformer`]. Does nothing on other targets than WebAssembly.
#[macro_export]
macro_rules! export_transformer {
    ($type:ident) => {
        $crate::export_world!($type, TransformerComponent, transformer, export_transformer_world);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! export_world {
    ($type:ident, $component:ident, $world:ident, $export:ident) => {
        #[cfg(target_arch = "wasm32")]
        mod component {
            type Component = $crate::$component<super::$type>;
            $crate::bindings::$world::$export!(
                Component with_types_in $crate::bindings::$world
            );
        }
    };
}
