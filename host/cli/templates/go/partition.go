package stage

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	renderer "{{name}}/bindings/logship_object_path_renderer"
)

// The layouts of package time for the letters after a %.
var layouts = map[rune]string{
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
		letter, size := utf8.DecodeRuneInString(rest)
		switch layout := layouts[letter]; {
		case size > 0 && letter == '%':
			text.WriteByte('%')
		case layout != "":
			text.WriteString(at.Format(layout))
		default:
			reason := fmt.Sprintf("%q is not supported; use %%Y %%m %%d %%H %%M %%S %%F %%%%", "%"+rest[:size])
			return "", &InvalidSetting{Path: "partition-format", Reason: reason}
		}
		format = rest[size:]
	}
	return text.String(), nil
}
