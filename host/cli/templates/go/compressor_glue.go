// Package export_logship_compress_compressor adapts the stage to the interface that the bindings call.
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
	stageError  = logship_compress_compressor.Error
)

// Object is an open object. The bindings use pinner and handle.
type Object struct {
	pinner runtime.Pinner
	handle int32
	*stage.Object
}

// OnDrop is called once, when the object is finished or abandoned.
func (object *Object) OnDrop() {}

func Describe() description {
	return stage.Describe()
}

func ObjectOpen(config string) wit.Result[*Object, stageError] {
	object, err := stage.Open(config)
	return result(&Object{Object: object}, err)
}

func (object *Object) Push(chunk []uint8) wit.Result[[]uint8, stageError] {
	return result(object.Object.Push(chunk))
}

// ObjectFinish takes ownership of the object and finishes it.
func ObjectFinish(object *Object) wit.Result[ending, stageError] {
	// object.Drop would call OnDrop a second time.
	defer resourceDropObject(object.handle)
	return result(object.Object.Finish())
}

// result converts a value and an error. The bindings have separate types for each kind of stage.
func result[T any](value T, err error) wit.Result[T, stageError] {
	var invalid *stage.InvalidSetting
	switch {
	case err == nil:
		return wit.Ok[T, stageError](value)
	case errors.As(err, &invalid):
		return wit.Err[T](logship_compress_compressor.MakeErrorInvalidConfig(logship_compress_compressor.ConfigProblem{
			Path: text(invalid.Path), Reason: text(invalid.Reason),
		}))
	default:
		return wit.Err[T](logship_compress_compressor.MakeErrorTooLarge(text(err.Error())))
	}
}

// text replaces bytes that are not UTF-8, which would make the stage trap.
func text(text string) string {
	return strings.ToValidUTF8(text, "\uFFFD")
}
