package stage

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
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
	if wrong.Path == "" {
		return wrong.Reason
	}
	return wrong.Path + ": " + wrong.Reason
}

// read fills a configuration, a struct with its defaults, from a JSON object, which has what differs from them. The empty
// text stands for {}. It is stricter than encoding/json, which takes names in capitals for those in small letters (here it
// still does within settings that are objects), and null for anything.
func read(text string, config any) error {
	if text == "" {
		text = "{}"
	}
	given, err := members([]byte(text))
	if err != nil {
		return &Wrong{Reason: "a JSON object is wanted: " + err.Error()}
	}
	settings, err := names(config)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(settings, name) {
			return &Wrong{Path: name, Reason: "there is no such setting; there are " + strings.Join(settings, ", ")}
		}
		if hasNull(given[name]) {
			return &Wrong{Path: name, Reason: "null is no value: leave it out"}
		}
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	err = decoder.Decode(config)
	var mistyped *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &mistyped):
		return &Wrong{Path: mistyped.Field, Reason: mistyped.Type.String() + " is wanted, and not " + mistyped.Value}
	default:
		return &Wrong{Reason: err.Error()}
	}
}

// names returns those of the settings: as JSON a configuration has them all, if none has omitempty.
func names(config any) ([]string, error) {
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	settings, err := members(text)
	return slices.Sorted(maps.Keys(settings)), err
}

func members(text []byte) (map[string]json.RawMessage, error) {
	var members map[string]json.RawMessage
	err := json.Unmarshal(text, &members)
	if err == nil && members == nil {
		err = errors.New("it is null")
	}
	return members, err
}

// hasNull says whether there is a null anywhere in JSON text.
func hasNull(text json.RawMessage) bool {
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			return false
		}
		if err != nil || token == nil {
			return true
		}
	}
}
