// Package export_logship_encode_encoder is what the bindings call: the stage, in the words of the contract.
package export_logship_encode_encoder

import (
	"runtime"

	wit "go.bytecodealliance.org/pkg/wit/types"

	"{{name}}/bindings/logship_encode_encoder"
	"{{name}}/stage"
)

// Object is an object in the making; pinner and handle are for the bindings.
type Object struct {
	pinner runtime.Pinner
	handle int32
	*stage.Object
}

// OnDrop is called once, when the object is finished or given up.
func (object *Object) OnDrop() {}

func Describe() logship_encode_encoder.Description {
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
	// Not object.Drop, which would call OnDrop a second time.
	defer resourceDropObject(object.handle)
	return result(object.Object.Finish())
}
