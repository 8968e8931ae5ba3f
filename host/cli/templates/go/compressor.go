// Package stage is the stage {{name}}: compresses an object as zlib.
package stage

import (
	"bytes"
	"compress/zlib"

	compressor "{{name}}/bindings/logship_compress_compressor"
)

const schema = `{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "level": {
      "type": "integer", "minimum": 1, "maximum": 9, "default": 6,
      "description": "The level, from 1 (fastest) to 9 (smallest)."
    }
  }
}`

// Describe returns the description of the stage.
func Describe() compressor.Description {
	return compressor.Description{
		Name:         "{{name}}",
		Version:      "0.1.0",
		Compression:  "zlib",
		Suffix:       ".zlib",
		SuffixPlace:  compressor.SuffixPlaceAfterFormat,
		ConfigSchema: schema,
	}
}

// Object is an open object.
type Object struct {
	writer *zlib.Writer
	// Compressed bytes that were not returned yet.
	ready bytes.Buffer
}

// Open opens an object.
func Open(text string) (*Object, error) {
	var config struct {
		Level int `json:"level"`
	}
	config.Level = 6
	if err := parse(text, &config); err != nil {
		return nil, err
	}
	if config.Level < 1 || config.Level > 9 {
		return nil, &InvalidSetting{Path: "level", Reason: "must be a level from 1 to 9"}
	}
	object := &Object{}
	var err error
	object.writer, err = zlib.NewWriterLevel(&object.ready, config.Level)
	return object, err
}

// Push compresses the next bytes.
func (object *Object) Push(chunk []byte) ([]byte, error) {
	if _, err := object.writer.Write(chunk); err != nil {
		return nil, err
	}
	return object.take(), nil
}

// Finish returns the last bytes.
func (object *Object) Finish() (compressor.Ending, error) {
	if err := object.writer.Close(); err != nil {
		return compressor.Ending{}, err
	}
	return compressor.Ending{Trailer: object.take()}, nil
}

func (object *Object) take() []byte {
	taken := object.ready.Bytes()
	object.ready = bytes.Buffer{}
	return taken
}
