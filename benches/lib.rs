//! Nothing: `benches/` has the benchmarks of the stages.
