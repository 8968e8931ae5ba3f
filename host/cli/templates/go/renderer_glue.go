// Package export_logship_object_path_renderer adapts the stage to the interface that the bindings call.
package export_logship_object_path_renderer

import (
	"errors"
	"strings"

	wit "go.bytecodealliance.org/pkg/wit/types"

	"{{name}}/bindings/logship_object_path_renderer"
	"{{name}}/stage"
)

type (
	description = logship_object_path_renderer.Description
	request     = logship_object_path_renderer.Request
	stageError  = logship_object_path_renderer.Error
)

func Describe() description {
	return stage.Describe()
}

func Render(config string, request request) wit.Result[string, stageError] {
	key, err := stage.Render(config, request)
	if err == nil {
		return wit.Ok[string, stageError](key)
	}
	// Bytes that are not UTF-8 would make the stage trap.
	text := func(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
	problem := logship_object_path_renderer.ConfigProblem{Reason: text(err.Error())}
	var invalid *stage.InvalidSetting
	if errors.As(err, &invalid) {
		problem.Path, problem.Reason = text(invalid.Path), text(invalid.Reason)
	}
	return wit.Err[string](logship_object_path_renderer.MakeErrorInvalidConfig(problem))
}
