// Package stage is the stage {{name}}: formats each log as an event for Splunk's HTTP Event Collector.
package stage

import (
	"encoding/json"

	formatter "{{name}}/bindings/logship_siem_formatter"
)

const schema = `{
  "type": "object",
  "additionalProperties": false,
  "properties": { "index": { "type": "string", "default": "main", "description": "The index of the events." } }
}`

// Describe returns the description of the stage.
func Describe() formatter.Description {
	return formatter.Description{
		Name:         "{{name}}",
		Version:      "0.1.0",
		Transport:    formatter.TransportHec,
		ConfigSchema: schema,
	}
}

// Session is an open session.
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

// Open opens a session.
func Open(config string) (*Session, error) {
	session := &Session{}
	session.config.Index = "main"
	return session, parse(config, &session.config)
}

// Push returns the events of a batch.
func (session *Session) Push(batch Batch) (formatter.Messages, error) {
	// An empty list: message i is from log i.
	var messages formatter.Messages
	if err := brokenInvariant(&batch); err != nil {
		return messages, err
	}
	field, start := 0, uint32(0)
	for log, last := range batch.FieldEnds {
		fields := make(map[string]string, int(last)-field)
		for ; field < int(last); field++ {
			end := batch.ValueEnds[field]
			fields[fieldName(batch.Keys[batch.FieldKeys[field]])] = string(batch.Values[start:end])
			start = end
		}
		host := batch.Groups[batch.LogGroups[log]].Source
		// json.Marshal sorts the keys and replaces bytes that are not UTF-8.
		event, err := json.Marshal(hecEvent{batch.Times[log], host, session.config.Index, fields})
		if err != nil {
			return messages, err
		}
		messages.Bytes = append(messages.Bytes, event...)
		messages.Ends = append(messages.Ends, uint32(len(messages.Bytes)))
	}
	return messages, nil
}
