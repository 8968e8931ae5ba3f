// Package stage is the stage {{name}}: one line per log, its time and its values, separated by tabs.
package stage

import (
	"strconv"

	encoder "{{name}}/bindings/logship_encode_encoder"
)

const schema = `{
  "type": "object",
  "additionalProperties": false,
  "properties": { "empty": { "type": "string", "default": "-", "description": "The replacement of an empty value." } }
}`

// Describe returns the description of the stage.
func Describe() encoder.Description {
	return encoder.Description{
		Name:         "{{name}}",
		Version:      "0.1.0",
		Format:       "tsv",
		Suffix:       ".tsv",
		MediaType:    "text/tab-separated-values",
		ConfigSchema: schema,
	}
}

// Object is an open object.
type Object struct {
	config struct {
		Empty string `json:"empty"`
	}
	size uint64
}

// Open opens an object.
func Open(config string) (*Object, error) {
	object := &Object{}
	object.config.Empty = "-"
	return object, parse(config, &object.config)
}

// Push returns the lines of a batch.
func (object *Object) Push(batch Batch) ([]byte, error) {
	if err := brokenInvariant(&batch); err != nil {
		return nil, err
	}
	// Ten digits of the time, a line break and spare bytes per log; a tab and a replacement per value.
	lines := make([]byte, 0, len(batch.Values)+12*len(batch.Times)+2*len(batch.FieldKeys))
	field, start := 0, uint32(0)
	for log, last := range batch.FieldEnds {
		lines = strconv.AppendUint(lines, uint64(batch.Times[log]), 10)
		for ; field < int(last); field++ {
			end := batch.ValueEnds[field]
			lines = object.appendValue(append(lines, '\t'), batch.Values[start:end])
			start = end
		}
		lines = append(lines, '\n')
	}
	object.size += uint64(len(lines))
	return lines, nil
}

// Size returns the object's size in bytes.
func (object *Object) Size() uint64 {
	return object.size
}

// Finish returns the last bytes.
func (object *Object) Finish() ([]byte, error) {
	return nil, nil
}

func (object *Object) appendValue(lines, value []byte) []byte {
	if len(value) == 0 {
		value = []byte(object.config.Empty)
	}
	start := len(lines)
	lines = append(lines, value...)
	for index, letter := range lines[start:] {
		if letter < ' ' {
			lines[start+index] = ' '
		}
	}
	return lines
}
