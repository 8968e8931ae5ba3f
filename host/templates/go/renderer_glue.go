// Package export_logship_object_path_renderer is what the bindings call: the stage, in the words of the contract.
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
	refusal     = logship_object_path_renderer.Error
)

func Describe() description {
	return stage.Describe()
}

func Render(config string, request request) wit.Result[string, refusal] {
	key, err := stage.Render(config, request)
	if err == nil {
		return wit.Ok[string, refusal](key)
	}
	// With other bytes than UTF-8 in a text the stage would trap.
	text := func(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
	problem := logship_object_path_renderer.ConfigProblem{Reason: text(err.Error())}
	var wrong *stage.Wrong
	if errors.As(err, &wrong) {
		problem.Path, problem.Reason = text(wrong.Path), text(wrong.Reason)
	}
	return wit.Err[string](logship_object_path_renderer.MakeErrorInvalidConfig(problem))
}
