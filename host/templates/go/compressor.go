// Package stage is the stage {{name}}: an object in the format of zlib.
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
      "description": "From fast to small."
    }
  }
}`

// Describe says what the stage is.
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

// Object is an object in the making.
type Object struct {
	writer *zlib.Writer
	// What is compressed, and not taken yet.
	ready bytes.Buffer
}

// Open begins an object.
func Open(text string) (*Object, error) {
	var config struct {
		Level int `json:"level"`
	}
	config.Level = 6
	if err := read(text, &config); err != nil {
		return nil, err
	}
	if config.Level < 1 || config.Level > 9 {
		return nil, &Wrong{Path: "level", Reason: "a level from 1 to 9 is wanted"}
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
