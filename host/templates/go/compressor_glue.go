// Package export_logship_compress_compressor is what the bindings call: the stage, in the words of the contract.
package export_logship_compress_compressor

import (
	"errors"
	"runtime"
	"strings"

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

// OnDrop is called once, when the object is finished or given up.
func (object *Object) OnDrop() {}

func Describe() description {
	return stage.Describe()
}

func ObjectOpen(config string) wit.Result[*Object, refusal] {
	object, err := stage.Open(config)
	return result(&Object{Object: object}, err)
}

func (object *Object) Push(chunk []uint8) wit.Result[[]uint8, refusal] {
	return result(object.Object.Push(chunk))
}

// ObjectFinish has the object to itself, and ends it.
func ObjectFinish(object *Object) wit.Result[ending, refusal] {
	// Not object.Drop, which would call OnDrop a second time.
	defer resourceDropObject(object.handle)
	return result(object.Object.Finish())
}

// result is a value, or why there is none. The bindings have types of their own for each kind of stage.
func result[T any](value T, err error) wit.Result[T, refusal] {
	var wrong *stage.Wrong
	switch {
	case err == nil:
		return wit.Ok[T, refusal](value)
	case errors.As(err, &wrong):
		return wit.Err[T](logship_compress_compressor.MakeErrorInvalidConfig(logship_compress_compressor.ConfigProblem{
			Path: text(wrong.Path), Reason: text(wrong.Reason),
		}))
	default:
		return wit.Err[T](logship_compress_compressor.MakeErrorTooLarge(text(err.Error())))
	}
}

// text is a text as the contract has it: with other bytes than UTF-8 the stage would trap.
func text(text string) string {
	return strings.ToValidUTF8(text, "\uFFFD")
}
