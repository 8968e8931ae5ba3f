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

func TestFieldsAreLeftOutByKey(t *testing.T) {
	session, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	left, err := session.Push(batch())
	if err != nil || broken(&left.Batch) != nil {
		t.Fatal(err, broken(&left.Batch))
	}
	if string(left.Batch.Values) != "annbob" || !slices.Equal(left.Batch.FieldEnds, []uint32{1, 2}) {
		t.Errorf("%q, %v", left.Batch.Values, left.Batch.FieldEnds)
	}
}

func TestAWrongSettingAndABrokenBatchAreRefused(t *testing.T) {
	for _, config := range []string{`{"drop": "a"}`, `{"dorp": []}`, `{} {}`, `null`, `{"drop": [null]}`, `{"drop": null}`, `{"DROP": []}`} {
		if _, err := Open(config); err == nil {
			t.Errorf("%s is taken", config)
		}
	}
	session, _ := Open("")
	wrong := batch()
	wrong.Values = nil
	if _, err := session.Push(wrong); err == nil {
		t.Error("a broken batch is taken")
	}
}
