// Package stage is the stage {{name}}: drops the fields with some keys.
package stage

import (
	"slices"

	transformer "{{name}}/bindings/logship_transform_transformer"
)

const schema = `{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "drop": {
      "type": "array", "items": { "type": "string" }, "default": ["password"],
      "description": "Keys of fields to drop."
    }
  }
}`

// Describe returns the description of the stage.
func Describe() transformer.Description {
	return transformer.Description{Name: "{{name}}", Version: "0.1.0", ConfigSchema: schema}
}

// Session is an open session.
type Session struct {
	config struct {
		Drop []string `json:"drop"`
	}
}

// Open opens a session.
func Open(config string) (*Session, error) {
	session := &Session{}
	session.config.Drop = []string{"password"}
	return session, parse(config, &session.config)
}

// Push returns the logs without the dropped fields.
func (session *Session) Push(batch Batch) (transformer.Transformed, error) {
	if err := brokenInvariant(&batch); err != nil {
		return transformer.Transformed{}, err
	}
	// An empty list: output log i is from input log i.
	return transformer.Transformed{Batch: session.without(batch)}, nil
}

func (session *Session) without(batch Batch) Batch {
	isDropped := make([]bool, len(batch.Keys))
	for index, key := range batch.Keys {
		isDropped[index] = slices.Contains(session.config.Drop, key)
	}
	if !slices.Contains(isDropped, true) {
		return batch
	}
	output := batch
	output.FieldEnds = make([]uint32, 0, len(batch.FieldEnds))
	output.FieldKeys = make([]uint32, 0, len(batch.FieldKeys))
	output.ValueEnds = make([]uint32, 0, len(batch.ValueEnds))
	output.Values = make([]byte, 0, len(batch.Values))
	field, start := 0, uint32(0)
	for _, last := range batch.FieldEnds {
		for ; field < int(last); field++ {
			key, end := batch.FieldKeys[field], batch.ValueEnds[field]
			if !isDropped[key] {
				output.Values = append(output.Values, batch.Values[start:end]...)
				output.FieldKeys = append(output.FieldKeys, key)
				output.ValueEnds = append(output.ValueEnds, uint32(len(output.Values)))
			}
			start = end
		}
		output.FieldEnds = append(output.FieldEnds, uint32(len(output.FieldKeys)))
	}
	return output
}
