// The invariants of `log-batch`, which a stage checks.

/** What is wrong with a batch, in words; none where nothing is. */
export function broken(batch) {
  const [logs, fields] = [batch.times.length, batch.fieldKeys.length];
  if (batch.logGroups.length !== logs || batch.fieldEnds.length !== logs) {
    return "log-groups or field-ends has not one element a log";
  }
  if (batch.nanos.length > 0 && (batch.nanos.length !== logs || !batch.nanos.every((nanos) => nanos < 1e9))) {
    return "nanos has not one element below 1,000,000,000 a log";
  }
  if (batch.valueEnds.length !== fields) {
    return "value-ends has not one element a field";
  }
  if (!covers(batch.fieldEnds, fields) || !covers(batch.valueEnds, batch.values.length)) {
    return "field-ends or value-ends falls, or does not cover all";
  }
  const within = (indices, count) => indices.every((index) => index < count);
  if (!within(batch.logGroups, batch.groups.length) || !within(batch.fieldKeys, batch.keys.length)) {
    return "log-groups or field-keys has an index outside";
  }
}

function covers(ends, total) {
  return (ends.at(-1) ?? 0) === total && ends.every((end, index) => index === 0 || ends[index - 1] <= end);
}
