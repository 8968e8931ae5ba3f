// Checks the invariants of `log-batch`, as every stage must.

/** Returns a description of the broken invariant, or undefined if the batch is valid. */
export function brokenInvariant(batch) {
  const [logs, fields] = [batch.times.length, batch.fieldKeys.length];
  if (batch.logGroups.length !== logs || batch.fieldEnds.length !== logs) {
    return "log-groups and field-ends must have one element per log";
  }
  if (batch.nanos.length > 0 && (batch.nanos.length !== logs || !batch.nanos.every((nanos) => nanos < 1e9))) {
    return "nanos must have one element below 1,000,000,000 per log";
  }
  if (batch.valueEnds.length !== fields) {
    return "value-ends must have one element per field";
  }
  if (!covers(batch.fieldEnds, fields) || !covers(batch.valueEnds, batch.values.length)) {
    return "field-ends and value-ends must be sorted and cover all fields and values";
  }
  const within = (indices, count) => indices.every((index) => index < count);
  if (!within(batch.logGroups, batch.groups.length) || !within(batch.fieldKeys, batch.keys.length)) {
    return "log-groups or field-keys has an index out of range";
  }
}

function covers(ends, total) {
  return (ends.at(-1) ?? 0) === total && ends.every((end, index) => index === 0 || ends[index - 1] <= end);
}
