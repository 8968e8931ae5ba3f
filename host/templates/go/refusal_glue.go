package export_{{bindings}}

import (
	"errors"
	"strings"

	wit "go.bytecodealliance.org/pkg/wit/types"

	"{{name}}/bindings/{{bindings}}"
	"{{name}}/stage"
)

type refusal = {{bindings}}.Error

// result is a value, or why there is none. The bindings have types of their own for each kind of stage.
func result[T any](value T, err error) wit.Result[T, refusal] {
	var wrong *stage.Wrong
	var rejected *stage.Rejected
	switch {
	case err == nil:
		return wit.Ok[T, refusal](value)
	case errors.As(err, &wrong):
		return wit.Err[T]({{bindings}}.MakeErrorInvalidConfig({{bindings}}.ConfigProblem{
			Path: text(wrong.Path), Reason: text(wrong.Reason),
		}))
	case errors.As(err, &rejected):
		return wit.Err[T]({{bindings}}.MakeErrorRejected({{bindings}}.Rejection{
			Log: rejected.Log, Reason: text(rejected.Reason),
		}))
	default:
		return wit.Err[T]({{bindings}}.MakeErrorInvalidBatch(text(err.Error())))
	}
}

// text is a text as the contract has it: with other bytes than UTF-8 the stage would trap.
func text(text string) string {
	return strings.ToValidUTF8(text, "\uFFFD")
}
