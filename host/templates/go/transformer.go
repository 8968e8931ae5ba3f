// Package stage is the stage {{name}}: leaves out the fields of some keys.
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
      "description": "Keys of fields to leave out."
    }
  }
}`

// Describe says what the stage is.
func Describe() transformer.Description {
	return transformer.Description{Name: "{{name}}", Version: "0.1.0", ConfigSchema: schema}
}

// Session is a run of batches.
type Session struct {
	config struct {
		Drop []string `json:"drop"`
	}
}

// Open begins a session.
func Open(config string) (*Session, error) {
	session := &Session{}
	session.config.Drop = []string{"password"}
	return session, read(config, &session.config)
}

// Push returns the logs without the fields.
func (session *Session) Push(batch Batch) (transformer.Transformed, error) {
	if err := broken(&batch); err != nil {
		return transformer.Transformed{}, err
	}
	// No list of logs: log i is from log i.
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
	left := batch
	left.FieldEnds = make([]uint32, 0, len(batch.FieldEnds))
	left.FieldKeys = make([]uint32, 0, len(batch.FieldKeys))
	left.ValueEnds = make([]uint32, 0, len(batch.ValueEnds))
	left.Values = make([]byte, 0, len(batch.Values))
	field, start := 0, uint32(0)
	for _, last := range batch.FieldEnds {
		for ; field < int(last); field++ {
			key, end := batch.FieldKeys[field], batch.ValueEnds[field]
			if !isDropped[key] {
				left.Values = append(left.Values, batch.Values[start:end]...)
				left.FieldKeys = append(left.FieldKeys, key)
				left.ValueEnds = append(left.ValueEnds, uint32(len(left.Values)))
			}
			start = end
		}
		left.FieldEnds = append(left.FieldEnds, uint32(len(left.FieldKeys)))
	}
	return left
}
