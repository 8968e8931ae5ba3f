package stage

import "testing"

func batch() Batch {
	group := Group{Source: "10.0.0.1"}
	return Batch{
		Groups:    []Group{group},
		Keys:      []string{"method"},
		Times:     []uint32{7},
		LogGroups: []uint32{0},
		FieldEnds: []uint32{1},
		FieldKeys: []uint32{0},
		ValueEnds: []uint32{3},
		Values:    []byte("GET"),
	}
}

func TestEventHasTheFieldsOfTheLog(t *testing.T) {
	session, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	messages, err := session.Push(batch())
	if err != nil {
		t.Fatal(err)
	}
	expected := `{"time":7,"host":"10.0.0.1","index":"main","event":{"method":"GET"}}`
	if string(messages.Bytes) != expected || len(messages.Ends) != 1 || int(messages.Ends[0]) != len(expected) {
		t.Errorf("%s, %v", messages.Bytes, messages.Ends)
	}
}

func TestRejectsInvalidSettingAndBrokenBatch(t *testing.T) {
	for _, config := range []string{`{"index": 1}`, `{"idnex": "a"}`, `{} {}`, `null`, `{"index": null}`, `{"Index": "a"}`} {
		if _, err := Open(config); err == nil {
			t.Errorf("%s was accepted", config)
		}
	}
	session, _ := Open("")
	broken := batch()
	broken.Values = nil
	if _, err := session.Push(broken); err == nil {
		t.Error("a broken batch was accepted")
	}
}
