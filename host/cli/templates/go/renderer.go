// Package stage is the stage {{name}}: makes the key of an object, PREFIX/shard=N/PARTITION_ID followed by the suffix.
package stage

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	renderer "{{name}}/bindings/logship_object_path_renderer"
)

const schema = `{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "level": { "type": "string", "pattern": "^[a-z]+$", "default": "shard", "description": "The name before the number." }
  }
}`

var levels = regexp.MustCompile("^[a-z]+$")

// Describe returns the description of the stage.
func Describe() renderer.Description {
	return renderer.Description{Name: "{{name}}", Version: "0.1.0", ConfigSchema: schema}
}

// Render returns the key of an object.
func Render(text string, request renderer.Request) (string, error) {
	var config struct {
		Level string `json:"level"`
	}
	config.Level = "shard"
	if err := parse(text, &config); err != nil {
		return "", err
	}
	if !levels.MatchString(config.Level) {
		return "", &InvalidSetting{Path: "level", Reason: "must be letters from a to z"}
	}
	name, err := partition(&request)
	if err != nil {
		return "", err
	}
	if name != "" {
		name += "_"
	}
	// Both identify the task, so no two tasks have the same key.
	name += fmt.Sprintf("%d_%d%s", request.CreationTime, request.Number, request.Suffix)
	key := fmt.Sprintf("%s=%d/%s", config.Level, request.Shard, name)
	if prefix := strings.TrimSuffix(request.Prefix, "/"); prefix != "" {
		key = prefix + "/" + key
	}
	if !isKey(key) {
		return "", &InvalidSetting{Path: "prefix", Reason: fmt.Sprintf("%.80q is not a valid key", key)}
	}
	return key, nil
}

// isKey reports whether the host accepts the key. The host cannot say why an invalid key was made.
func isKey(key string) bool {
	for level := range strings.SplitSeq(key, "/") {
		if level == "" || level == "." || level == ".." {
			return false
		}
	}
	return len(key) <= 1023 && utf8.ValidString(key) && !strings.HasPrefix(key, `\`) && !strings.ContainsFunc(key, unicode.IsControl)
}
