// Package export_logship_compress_compressor is what the bindings call: the stage, in the words of the contract.
package export_logship_compress_compressor

import (
	"errors"
	"runtime"

	wit "go.bytecodealliance.org/pkg/wit/types"

	"{{name}}/bindings/logship_compress_compressor"
	"{{name}}/stage"
)

type (
	description = logship_compress_compressor.Description
	ending      = logship_compress_compressor.Ending
	refusal     = logship_compress_compressor.Error
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

func (object *Object) Push(bytes []uint8) wit.Result[[]uint8, refusal] {
	return result(object.Object.Push(bytes))
}

// ObjectFinish has the object to itself, and ends it.
func ObjectFinish(object *Object) wit.Result[ending, refusal] {
	defer object.Drop()
	return result(object.Object.Finish())
}

func result[T any](value T, err error) wit.Result[T, refusal] {
	var wrong *stage.Wrong
	switch {
	case err == nil:
		return wit.Ok[T, refusal](value)
	case errors.As(err, &wrong):
		problem := logship_compress_compressor.ConfigProblem{Path: wrong.Path, Reason: wrong.Reason}
		return wit.Err[T](logship_compress_compressor.MakeErrorInvalidConfig(problem))
	default:
		return wit.Err[T](logship_compress_compressor.MakeErrorTooLarge(err.Error()))
	}
}
