package strictjson_test

import (
	"testing"

	"bollard/internal/strictjson"
)

func TestObject(t *testing.T) {
	t.Parallel()
	for text, members := range map[string]int{
		`{}`: 0, `{"a":1,"b":{"a":[]}}`: 2, ` {"a" : null} `: 1, `{"a":1,"A":2}`: 2,
		`{"a":1,"a":2}`: -1, `{"a":1,"\u0061":2}`: -1, `{"a":1}{}`: -1, `{"a":1}x`: -1, `[]`: -1, `{"a"}`: -1, `{"a":1`: -1, `{"a":}`: -1, ``: -1, `null`: -1,
	} {
		found, err := strictjson.Object([]byte(text))
		if err == nil != (members >= 0) || err == nil && len(found) != members {
			t.Errorf("%s: %d members, %v", text, len(found), err)
		}
	}
}
