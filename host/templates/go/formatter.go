// Package stage is the stage {{name}}: each log as an event for Splunk's HTTP Event Collector.
package stage

import (
	"encoding/json"

	formatter "{{name}}/bindings/logship_siem_formatter"
)

const schema = `{
  "type": "object",
  "additionalProperties": false,
  "properties": { "index": { "type": "string", "default": "main", "description": "The index that events go to." } }
}`

// Describe says what the stage is.
func Describe() formatter.Description {
	return formatter.Description{
		Name:         "{{name}}",
		Version:      "0.1.0",
		Transport:    formatter.TransportHec,
		ConfigSchema: schema,
	}
}

// Session is a run of batches.
type Session struct {
	config struct {
		Index string `json:"index"`
	}
}

type hecEvent struct {
	Time   uint32            `json:"time"`
	Host   string            `json:"host"`
	Index  string            `json:"index"`
	Fields map[string]string `json:"event"`
}

// Open begins a session.
func Open(config string) (*Session, error) {
	session := &Session{}
	session.config.Index = "main"
	return session, read(config, &session.config)
}

// Push returns the events of some logs.
func (session *Session) Push(batch Batch) (formatter.Messages, error) {
	// No list of logs: message i is from log i.
	var messages formatter.Messages
	if err := broken(&batch); err != nil {
		return messages, err
	}
	field, start := 0, uint32(0)
	for log, last := range batch.FieldEnds {
		fields := make(map[string]string, int(last)-field)
		for ; field < int(last); field++ {
			end := batch.ValueEnds[field]
			fields[batch.Keys[batch.FieldKeys[field]]] = string(batch.Values[start:end])
			start = end
		}
		host := batch.Groups[batch.LogGroups[log]].Source
		// It sorts the keys, and has a replacement character for what is not UTF-8.
		event, err := json.Marshal(hecEvent{batch.Times[log], host, session.config.Index, fields})
		if err != nil {
			return messages, err
		}
		messages.Bytes = append(messages.Bytes, event...)
		messages.Ends = append(messages.Ends, uint32(len(messages.Bytes)))
	}
	return messages, nil
}
