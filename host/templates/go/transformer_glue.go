// Package export_logship_transform_transformer is what the bindings call: the stage, in the words of the contract.
package export_logship_transform_transformer

import (
	"errors"
	"runtime"

	wit "go.bytecodealliance.org/pkg/wit/types"

	"{{name}}/bindings/logship_transform_transformer"
	"{{name}}/stage"
)

type (
	description = logship_transform_transformer.Description
	transformed = logship_transform_transformer.Transformed
	refusal     = logship_transform_transformer.Error
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

func (session *Session) Push(batch stage.Batch) wit.Result[transformed, refusal] {
	return result(session.Session.Push(batch))
}

func result[T any](value T, err error) wit.Result[T, refusal] {
	var wrong *stage.Wrong
	switch {
	case err == nil:
		return wit.Ok[T, refusal](value)
	case errors.As(err, &wrong):
		problem := logship_transform_transformer.ConfigProblem{Path: wrong.Path, Reason: wrong.Reason}
		return wit.Err[T](logship_transform_transformer.MakeErrorInvalidConfig(problem))
	default:
		return wit.Err[T](logship_transform_transformer.MakeErrorInvalidBatch(err.Error()))
	}
}
