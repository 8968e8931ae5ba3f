// Package export_logship_encode_encoder adapts the stage to the interface that the bindings call.
package export_logship_encode_encoder

import (
	"runtime"

	wit "go.bytecodealliance.org/pkg/wit/types"

	"{{name}}/bindings/logship_encode_encoder"
	"{{name}}/stage"
)

// Object is an open object. The bindings use pinner and handle.
type Object struct {
	pinner runtime.Pinner
	handle int32
	*stage.Object
}

// OnDrop is called once, when the object is finished or abandoned.
func (object *Object) OnDrop() {}

func Describe() logship_encode_encoder.Description {
	return stage.Describe()
}

func ObjectOpen(config string) wit.Result[*Object, stageError] {
	object, err := stage.Open(config)
	return result(&Object{Object: object}, err)
}

func (object *Object) Push(batch stage.Batch) wit.Result[[]uint8, stageError] {
	return result(object.Object.Push(batch))
}

// ObjectFinish takes ownership of the object and finishes it.
func ObjectFinish(object *Object) wit.Result[[]uint8, stageError] {
	// object.Drop would call OnDrop a second time.
	defer resourceDropObject(object.handle)
	return result(object.Object.Finish())
}
