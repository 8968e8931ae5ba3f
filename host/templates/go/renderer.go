// Package stage is the stage {{name}}: PREFIX/shard=N/PARTITION_ID and the suffix, the key of an object.
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
    "level": { "type": "string", "pattern": "^[a-z]+$", "default": "shard", "description": "What stands before the number." }
  }
}`

var levels = regexp.MustCompile("^[a-z]+$")

// Describe says what the stage is.
func Describe() renderer.Description {
	return renderer.Description{Name: "{{name}}", Version: "0.1.0", ConfigSchema: schema}
}

// Render returns the key of an object.
func Render(text string, request renderer.Request) (string, error) {
	var config struct {
		Level string `json:"level"`
	}
	config.Level = "shard"
	if err := read(text, &config); err != nil {
		return "", err
	}
	if !levels.MatchString(config.Level) {
		return "", &Wrong{Path: "level", Reason: "letters from a to z are wanted"}
	}
	name, err := partition(&request)
	if err != nil {
		return "", err
	}
	if name != "" {
		name += "_"
	}
	// Both are the task's own, so no two tasks have the same key.
	name += fmt.Sprintf("%d_%d%s", request.CreationTime, request.Number, request.Suffix)
	key := fmt.Sprintf("%s=%d/%s", config.Level, request.Shard, name)
	if prefix := strings.TrimSuffix(request.Prefix, "/"); prefix != "" {
		key = prefix + "/" + key
	}
	if !isKey(key) {
		return "", &Wrong{Path: "prefix", Reason: fmt.Sprintf("%.80q can't be a key", key)}
	}
	return key, nil
}

// isKey says whether the host would take it: if not, it does not know why it is so.
func isKey(key string) bool {
	for level := range strings.SplitSeq(key, "/") {
		if level == "" || level == "." || level == ".." {
			return false
		}
	}
	return len(key) <= 1023 && utf8.ValidString(key) && !strings.HasPrefix(key, `\`) && !strings.ContainsFunc(key, unicode.IsControl)
}
