//! The stage of a preview in the place of a stage of a rule that writes rows.

use logship_config::rule::StageSpec;
use logship_registry::Registry;
use logship_runtime::stage::Kind;

use crate::engine::preview::{Candidate, PreviewError};
use crate::preview::{replaced_stage, transform_name};

/// Returns the index of the transformer that a candidate replaces, `None` for the row encoder, and the registry with the
/// candidate in its place.
///
/// # Errors
/// If the rule has no such place.
pub(super) fn with_candidate(
    registry: &Registry,
    (rule, transforms, encoder): (&str, &[StageSpec], &str),
    candidate: &Candidate,
) -> Result<(Option<usize>, Registry), PreviewError> {
    let stages = "it writes rows, and has only transformers and a row encoder";
    let replaced = replaced_stage((rule, transforms), candidate, Kind::RowEncoder, stages)?;
    let name = replaced.map_or_else(|| encoder.to_owned(), |index| transform_name(&transforms[index]));
    Ok((replaced, registry.with_override(&name, candidate.stage.clone())))
}
