// Package export_logship_siem_formatter is what the bindings call: the stage, in the words of the contract.
package export_logship_siem_formatter

import (
	"errors"
	"runtime"

	wit "go.bytecodealliance.org/pkg/wit/types"

	"{{name}}/bindings/logship_siem_formatter"
	"{{name}}/stage"
)

type (
	description = logship_siem_formatter.Description
	messages    = logship_siem_formatter.Messages
	refusal     = logship_siem_formatter.Error
)

// Session is a run of batches; pinner and handle are for the bindings.
type Session struct {
	pinner runtime.Pinner
	handle int32
	*stage.Session
}

// OnDrop is called when the host has let go of it.
func (session *Session) OnDrop() {}

func Describe() description {
	return stage.Describe()
}

func SessionOpen(config string) wit.Result[*Session, refusal] {
	session, err := stage.Open(config)
	return result(&Session{Session: session}, err)
}

func (session *Session) Push(batch stage.Batch) wit.Result[messages, refusal] {
	return result(session.Session.Push(batch))
}

func result[T any](value T, err error) wit.Result[T, refusal] {
	var wrong *stage.Wrong
	switch {
	case err == nil:
		return wit.Ok[T, refusal](value)
	case errors.As(err, &wrong):
		problem := logship_siem_formatter.ConfigProblem{Path: wrong.Path, Reason: wrong.Reason}
		return wit.Err[T](logship_siem_formatter.MakeErrorInvalidConfig(problem))
	default:
		return wit.Err[T](logship_siem_formatter.MakeErrorInvalidBatch(err.Error()))
	}
}
