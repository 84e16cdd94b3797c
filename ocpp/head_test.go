package ocpp_test

import (
	"testing"

	"bollard/ocpp"
)

func TestParseHead(t *testing.T) {
	t.Parallel()
	h, err := ocpp.ParseHead([]byte("\t[ 2 ,\"a\\u00e9\" , \"\\u0046oo-Signed\" , {\"x\":[1,{},[]]} ]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if h.Type != ocpp.Call || h.ID != "aé" || string(h.RawID) != `"a\u00e9"` || h.Action != "Foo-Signed" || string(h.Payload) != `{"x":[1,{},[]]}` {
		t.Errorf("head is %+v", h)
	}
}
