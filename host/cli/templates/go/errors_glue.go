package export_{{bindings}}

import (
	"errors"
	"strings"

	wit "go.bytecodealliance.org/pkg/wit/types"

	"{{name}}/bindings/{{bindings}}"
	"{{name}}/stage"
)

type stageError = {{bindings}}.Error

// result converts a value and an error. The bindings have separate types for each kind of stage.
func result[T any](value T, err error) wit.Result[T, stageError] {
	var invalid *stage.InvalidSetting
	var rejected *stage.Rejected
	switch {
	case err == nil:
		return wit.Ok[T, stageError](value)
	case errors.As(err, &invalid):
		return wit.Err[T]({{bindings}}.MakeErrorInvalidConfig({{bindings}}.ConfigProblem{
			Path: text(invalid.Path), Reason: text(invalid.Reason),
		}))
	case errors.As(err, &rejected):
		return wit.Err[T]({{bindings}}.MakeErrorRejected({{bindings}}.Rejection{
			Log: rejected.Log, Reason: text(rejected.Reason),
		}))
	default:
		return wit.Err[T]({{bindings}}.MakeErrorInvalidBatch(text(err.Error())))
	}
}

// text replaces bytes that are not UTF-8, which would make the stage trap.
func text(text string) string {
	return strings.ToValidUTF8(text, "\uFFFD")
}
