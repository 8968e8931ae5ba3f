package stage

import (
	"errors"
	"slices"
	"strings"

	"{{name}}/bindings/logship_batch_types"
)

// Batch is a stage's input: logs as columns (wit/deps/batch/batch.wit).
type Batch = logship_batch_types.LogBatch

// Group is a group of logs.
type Group = logship_batch_types.LogGroup

// Rejected is the error for a log that the stage cannot process.
type Rejected struct {
	// Log is the log's index in the batch.
	Log uint32
	// Reason is the problem, and how to fix it.
	Reason string
}

func (rejected *Rejected) Error() string {
	return rejected.Reason
}

// brokenInvariant returns an error if the batch breaks one of its invariants.
func brokenInvariant(batch *Batch) error {
	logs, fields := len(batch.Times), len(batch.FieldKeys)
	switch {
	case len(batch.LogGroups) != logs || len(batch.FieldEnds) != logs:
		return errors.New("log-groups and field-ends must have one element per log")
	case len(batch.Nanos) > 0 && (len(batch.Nanos) != logs || !within(batch.Nanos, 1_000_000_000)):
		return errors.New("nanos must have one element below 1,000,000,000 per log")
	case len(batch.ValueEnds) != fields:
		return errors.New("value-ends must have one element per field")
	case !covers(batch.FieldEnds, fields) || !covers(batch.ValueEnds, len(batch.Values)):
		return errors.New("field-ends and value-ends must be sorted and cover all fields and values")
	case !within(batch.LogGroups, len(batch.Groups)) || !within(batch.FieldKeys, len(batch.Keys)):
		return errors.New("log-groups or field-keys has an index out of range")
	}
	return nil
}

// fieldName returns the name under which a field may be shown. Reserved names belong to the log's own time, topic, source
// and tags: a field called so is renamed, or whoever writes a log could forge them.
func fieldName(key string) string {
	switch {
	case key == "__time__", key == "__time_ns_part__", key == "__topic__", key == "__source__",
		strings.HasPrefix(key, "__tag__:"):
		return "__field__:" + key
	}
	return key
}

func covers(ends []uint32, total int) bool {
	last := 0
	if len(ends) > 0 {
		last = int(ends[len(ends)-1])
	}
	return last == total && slices.IsSorted(ends)
}

func within(indices []uint32, count int) bool {
	for _, index := range indices {
		if int(index) >= count {
			return false
		}
	}
	return true
}
