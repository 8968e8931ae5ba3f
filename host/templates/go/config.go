package stage

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// Wrong says what is wrong with the configuration.
type Wrong struct {
	// Path of the offending member; empty for the text as a whole.
	Path string
	// Reason says what is wrong with it, and what would be right.
	Reason string
}

func (wrong *Wrong) Error() string {
	return wrong.Path + ": " + wrong.Reason
}

// read fills a configuration from JSON text, which has what differs from it; the empty text stands for {}.
func read(text string, config any) error {
	if text == "" {
		return nil
	}
	if !strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "{") {
		return &Wrong{Reason: "a JSON object is wanted"}
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(config)
	var mistyped *json.UnmarshalTypeError
	if errors.As(err, &mistyped) {
		return &Wrong{Path: mistyped.Field, Reason: mistyped.Type.String() + " is wanted, and not " + mistyped.Value}
	}
	if err != nil {
		return &Wrong{Reason: err.Error()}
	}
	if _, err := decoder.Token(); err != io.EOF {
		return &Wrong{Reason: "there is something behind the JSON object"}
	}
	return nil
}
