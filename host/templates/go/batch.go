package stage

import (
	"errors"
	"slices"

	"{{name}}/bindings/logship_batch_types"
)

// Batch is what a stage is given: logs as columns, as wit/deps/batch/batch.wit has them.
type Batch = logship_batch_types.LogBatch

// Group is a group of logs.
type Group = logship_batch_types.LogGroup

// Rejected is the error of a log that nothing can be made of.
type Rejected struct {
	// Log is its index in the batch.
	Log uint32
	// Reason says why, and what would be right.
	Reason string
}

func (rejected *Rejected) Error() string {
	return rejected.Reason
}

// broken says what of its invariants a batch breaks, if it breaks one.
func broken(batch *Batch) error {
	logs, fields := len(batch.Times), len(batch.FieldKeys)
	switch {
	case len(batch.LogGroups) != logs || len(batch.FieldEnds) != logs:
		return errors.New("log-groups or field-ends has not one element a log")
	case len(batch.Nanos) > 0 && (len(batch.Nanos) != logs || !within(batch.Nanos, 1_000_000_000)):
		return errors.New("nanos has not one element below 1,000,000,000 a log")
	case len(batch.ValueEnds) != fields:
		return errors.New("value-ends has not one element a field")
	case !covers(batch.FieldEnds, fields) || !covers(batch.ValueEnds, len(batch.Values)):
		return errors.New("field-ends or value-ends falls, or does not cover all")
	case !within(batch.LogGroups, len(batch.Groups)) || !within(batch.FieldKeys, len(batch.Keys)):
		return errors.New("log-groups or field-keys has an index outside")
	}
	return nil
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
