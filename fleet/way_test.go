package fleet

import (
	"encoding/json"
	"testing"
)

// Records hold ways in, and another spelling would be another way for each station.
func TestWayIsSpeltAsAMapWas(t *testing.T) {
	t.Parallel()
	for _, w := range []way{
		{Backend: "b", Certificate: "c", Listener: "<l>", OCPP: "2.0.1", PasswordSet: "p", Profile: "3", Proof: "f", Serial: "s", TLS: "1.3"},
		{},
	} {
		fields := map[string]string{}
		text, err := json.Marshal(&w)
		if err == nil {
			err = json.Unmarshal(text, &fields)
		}
		want, encoded := json.Marshal(fields)
		if err != nil || encoded != nil || string(text) != string(want) {
			t.Errorf("got  %s\nwant %s, %v, %v", text, want, err, encoded)
		}
	}
}
