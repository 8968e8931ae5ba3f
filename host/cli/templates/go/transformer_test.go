package stage

import (
	"slices"
	"testing"
)

func batch() Batch {
	return Batch{
		Groups:    make([]Group, 1),
		Keys:      []string{"password", "user"},
		Times:     []uint32{7, 8},
		LogGroups: []uint32{0, 0},
		FieldEnds: []uint32{2, 3},
		FieldKeys: []uint32{0, 1, 1},
		ValueEnds: []uint32{6, 9, 12},
		Values:    []byte("secretannbob"),
	}
}

func TestDropsFieldsByKey(t *testing.T) {
	session, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	output, err := session.Push(batch())
	if err != nil || brokenInvariant(&output.Batch) != nil {
		t.Fatal(err, brokenInvariant(&output.Batch))
	}
	if string(output.Batch.Values) != "annbob" || !slices.Equal(output.Batch.FieldEnds, []uint32{1, 2}) {
		t.Errorf("%q, %v", output.Batch.Values, output.Batch.FieldEnds)
	}
}

func TestRejectsInvalidSettingAndBrokenBatch(t *testing.T) {
	for _, config := range []string{`{"drop": "a"}`, `{"dorp": []}`, `{} {}`, `null`, `{"drop": [null]}`, `{"drop": null}`, `{"DROP": []}`} {
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
