package stage

import (
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
)

// InvalidSetting is an error in the configuration.
type InvalidSetting struct {
	// Path of the setting; empty for the whole text.
	Path string
	// Reason is the problem, and how to fix it.
	Reason string
}

func (invalid *InvalidSetting) Error() string {
	if invalid.Path == "" {
		return invalid.Reason
	}
	return invalid.Path + ": " + invalid.Reason
}

// parse overrides the defaults in config, a struct, with the settings of a JSON object. The empty text means {}. It is
// stricter than encoding/json, which ignores the case of names (still ignored here inside settings that are objects) and
// accepts null for any type.
func parse(text string, config any) error {
	if text == "" {
		text = "{}"
	}
	given, err := fields([]byte(text))
	if err != nil {
		return &InvalidSetting{Reason: "must be a JSON object: " + err.Error()}
	}
	settings, err := names(config)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(settings, name) {
			return &InvalidSetting{Path: name, Reason: "unknown setting; use one of " + strings.Join(settings, ", ")}
		}
		if hasNull(given[name]) {
			return &InvalidSetting{Path: name, Reason: "must not be null; remove it"}
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
		return &InvalidSetting{Path: mistyped.Field, Reason: "must be " + mistyped.Type.String() + ", not " + mistyped.Value}
	default:
		return &InvalidSetting{Reason: err.Error()}
	}
}

// names returns the names of the settings. A configuration must not use omitempty, so that its JSON has all of them.
func names(config any) ([]string, error) {
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	settings, err := fields(text)
	return slices.Sorted(maps.Keys(settings)), err
}

func fields(text []byte) (map[string]json.RawMessage, error) {
	var fields map[string]json.RawMessage
	err := json.Unmarshal(text, &fields)
	if err == nil && fields == nil {
		err = errors.New("it is null")
	}
	return fields, err
}

// hasNull reports whether JSON text contains a null.
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
