package stage

import (
	"testing"

	renderer "{{name}}/bindings/logship_object_path_renderer"
)

var request = renderer.Request{
	Rule:            "to-lake",
	Project:         "shop",
	Logstore:        "access",
	Shard:           3,
	Prefix:          "logs",
	PartitionFormat: "ds=%Y%m%d/%H",
	PartitionTime:   1_484_913_043_351_525_351,
	UtcOffset:       28_800,
	CreationTime:    1_484_913_043_351_525_351,
	Number:          7,
	Suffix:          ".csv",
}

func TestKeyHasShardAndPartition(t *testing.T) {
	key, err := Render("", request)
	if err != nil || key != "logs/shard=3/ds=20170120/19_1484913043351525351_7.csv" {
		t.Errorf("%q, %v", key, err)
	}
}

func TestRejectsInvalidKeys(t *testing.T) {
	climbing, unknown, cut := request, request, request
	climbing.Prefix = "../a"
	unknown.PartitionFormat = "%é"
	cut.PartitionFormat = "a%"
	for _, invalid := range []renderer.Request{climbing, unknown, cut} {
		if key, err := Render("", invalid); err == nil {
			t.Errorf("%q was accepted as a key", key)
		}
	}
	for _, config := range []string{`{"level": 1}`, `{"level": "A"}`, `{"lvel": "a"}`, `null`, `{"level": null}`, `{"Level": "a"}`} {
		if _, err := Render(config, request); err == nil {
			t.Errorf("%s was accepted", config)
		}
	}
}
