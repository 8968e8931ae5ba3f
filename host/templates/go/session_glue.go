// Package export_{{bindings}} is what the bindings call: the stage, in the words of the contract.
package export_{{bindings}}

import (
	"runtime"

	wit "go.bytecodealliance.org/pkg/wit/types"

	"{{name}}/bindings/{{bindings}}"
	"{{name}}/stage"
)

type made = {{bindings}}.{{made}}

// Session is a run of batches; pinner and handle are for the bindings.
type Session struct {
	pinner runtime.Pinner
	handle int32
	*stage.Session
}

// OnDrop is called once, when the host has let go of it.
func (session *Session) OnDrop() {}

func Describe() {{bindings}}.Description {
	return stage.Describe()
}

func SessionOpen(config string) wit.Result[*Session, refusal] {
	session, err := stage.Open(config)
	return result(&Session{Session: session}, err)
}

func (session *Session) Push(batch stage.Batch) wit.Result[made, refusal] {
	return result(session.Session.Push(batch))
}
