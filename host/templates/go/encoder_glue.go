// Package export_logship_encode_encoder is what the bindings call: the stage, in the words of the contract.
package export_logship_encode_encoder

import (
	"errors"
	"runtime"

	wit "go.bytecodealliance.org/pkg/wit/types"

	"{{name}}/bindings/logship_encode_encoder"
	"{{name}}/stage"
)

type (
	description = logship_encode_encoder.Description
	refusal     = logship_encode_encoder.Error
)

// Object is an object in the making; pinner and handle are for the bindings.
type Object struct {
	pinner runtime.Pinner
	handle int32
	*stage.Object
}

// OnDrop is called when the host has let go of it.
func (object *Object) OnDrop() {}

func Describe() description {
	return stage.Describe()
}

func ObjectOpen(config string) wit.Result[*Object, refusal] {
	object, err := stage.Open(config)
	return result(&Object{Object: object}, err)
}

func (object *Object) Push(batch stage.Batch) wit.Result[[]uint8, refusal] {
	return result(object.Object.Push(batch))
}

// ObjectFinish has the object to itself, and ends it.
func ObjectFinish(object *Object) wit.Result[[]uint8, refusal] {
	defer object.Drop()
	return result(object.Object.Finish())
}

func result[T any](value T, err error) wit.Result[T, refusal] {
	var wrong *stage.Wrong
	switch {
	case err == nil:
		return wit.Ok[T, refusal](value)
	case errors.As(err, &wrong):
		problem := logship_encode_encoder.ConfigProblem{Path: wrong.Path, Reason: wrong.Reason}
		return wit.Err[T](logship_encode_encoder.MakeErrorInvalidConfig(problem))
	default:
		return wit.Err[T](logship_encode_encoder.MakeErrorInvalidBatch(err.Error()))
	}
}
