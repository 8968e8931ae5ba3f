// Package export_{{bindings}} adapts the stage to the interface that the bindings call.
package export_{{bindings}}

import (
	"runtime"

	wit "go.bytecodealliance.org/pkg/wit/types"

	"{{name}}/bindings/{{bindings}}"
	"{{name}}/stage"
)

type output = {{bindings}}.{{output}}

// Session is an open session. The bindings use pinner and handle.
type Session struct {
	pinner runtime.Pinner
	handle int32
	*stage.Session
}

// OnDrop is called once, when the host drops the session.
func (session *Session) OnDrop() {}

func Describe() {{bindings}}.Description {
	return stage.Describe()
}

func SessionOpen(config string) wit.Result[*Session, stageError] {
	session, err := stage.Open(config)
	return result(&Session{Session: session}, err)
}

func (session *Session) Push(batch stage.Batch) wit.Result[output, stageError] {
	return result(session.Session.Push(batch))
}
