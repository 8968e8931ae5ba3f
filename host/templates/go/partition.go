package stage

import (
	"fmt"
	"strings"
	"time"

	renderer "{{name}}/bindings/logship_object_path_renderer"
)

// What the letters behind a % are, as the package time writes them.
var layouts = map[byte]string{
	'Y': "2006", 'm': "01", 'd': "02", 'H': "15", 'M': "04", 'S': "05", 'F': "2006-01-02",
}

// partition renders the partition format at the partition time, in the rule's time zone.
func partition(request *renderer.Request) (string, error) {
	zone := time.FixedZone("", int(request.UtcOffset))
	at := time.Unix(int64(request.PartitionTime/1_000_000_000), 0).In(zone)
	var text strings.Builder
	for format := request.PartitionFormat; format != ""; {
		plain, rest, found := strings.Cut(format, "%")
		text.WriteString(plain)
		if !found {
			break
		}
		directive := rest[:min(len(rest), 1)]
		switch {
		case directive == "%":
			text.WriteString("%")
		case directive != "" && layouts[directive[0]] != "":
			text.WriteString(at.Format(layouts[directive[0]]))
		default:
			reason := fmt.Sprintf("%q is none of %%Y %%m %%d %%H %%M %%S %%F %%%%", "%"+directive)
			return "", &Wrong{Path: "partition-format", Reason: reason}
		}
		format = rest[1:]
	}
	return text.String(), nil
}
