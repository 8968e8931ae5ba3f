package stage

import (
	"bytes"
	"compress/zlib"
	"io"
	"testing"
)

func TestOutputRoundTrips(t *testing.T) {
	object, err := Open("")
	if err != nil {
		t.Fatal(err)
	}
	text := bytes.Repeat([]byte("a line of a log\n"), 100_000)
	var compressed []byte
	for start := 0; start < len(text); start += 400_000 {
		pushed, err := object.Push(text[start : start+400_000])
		if err != nil {
			t.Fatal(err)
		}
		compressed = append(compressed, pushed...)
	}
	ending, err := object.Finish()
	if err != nil {
		t.Fatal(err)
	}
	compressed = append(compressed, ending.Trailer...)
	reader, err := zlib.NewReader(bytes.NewReader(compressed))
	if err != nil {
		t.Fatal(err)
	}
	back, err := io.ReadAll(reader)
	if err != nil || !bytes.Equal(back, text) || len(compressed) > len(text)/10 {
		t.Errorf("%d bytes of %d, and %d back: %v", len(compressed), len(text), len(back), err)
	}
}

func TestRejectsInvalidSetting(t *testing.T) {
	for _, config := range []string{`{"level": 10}`, `{"level": "9"}`, `{"levle": 1}`, `{} {}`, `null`, `{"level": null}`, `{"Level": 1}`} {
		if _, err := Open(config); err == nil {
			t.Errorf("%s was accepted", config)
		}
	}
}
