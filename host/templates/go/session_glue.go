// Package export_{{bindings}} is what the bindings call: the stage, in the words of the contract.
package export_{{bindings}}

import (
	"errors"
	"runtime"
	"strings"

	wit "go.bytecodealliance.org/pkg/wit/types"

	"{{name}}/bindings/{{bindings}}"
	"{{name}}/stage"
)

type (
	description = {{bindings}}.Description
	made        = {{bindings}}.{{made}}
	refusal     = {{bindings}}.Error
)

// Session is a run of batches; pinner and handle are for the bindings.
type Session struct {
	pinner runtime.Pinner
	handle int32
	*stage.Session
}

// OnDrop is called once, when the host has let go of it.
func (session *Session) OnDrop() {}

func Describe() description {
	return stage.Describe()
}

func SessionOpen(config string) wit.Result[*Session, refusal] {
	session, err := stage.Open(config)
	return result(&Session{Session: session}, err)
}

func (session *Session) Push(batch stage.Batch) wit.Result[made, refusal] {
	return result(session.Session.Push(batch))
}

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
