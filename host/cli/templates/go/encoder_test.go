package stage

import "testing"

func batch() Batch {
	return Batch{
		Groups:    make([]Group, 1),
		Keys:      []string{"method", "user"},
		Times:     []uint32{7},
		LogGroups: []uint32{0},
		FieldEnds: []uint32{2},
		FieldKeys: []uint32{0, 1},
		ValueEnds: []uint32{4, 4},
		Values:    []byte("GE\tT"),
	}
}

func TestLineHasTimeAndValues(t *testing.T) {
	object, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	lines, err := object.Push(batch())
	if err != nil || string(lines) != "7\tGE T\t-\n" || object.Size() != 9 {
		t.Fatalf("%q of %d bytes, %v", lines, object.Size(), err)
	}
}

func TestRejectsInvalidSettingAndBrokenBatch(t *testing.T) {
	for _, config := range []string{`{"empty": 1}`, `{"emtpy": "-"}`, `{} {}`, `null`, `{"empty": null}`, `{"Empty": "-"}`} {
		if _, err := Open(config); err == nil {
			t.Errorf("%s was accepted", config)
		}
	}
	object, _ := Open("")
	broken := batch()
	broken.Values = nil
	if _, err := object.Push(broken); err == nil {
		t.Error("a broken batch was accepted")
	}
}
