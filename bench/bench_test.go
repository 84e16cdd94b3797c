package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Requests are JSON of up to 2 KB, all different, and the answer changes
// with every byte of the request: a wrong byte on the way can't go unseen.
func TestAnswersProveEveryByte(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for n := range 64 {
		req := request(nil, 4711, n)
		if !json.Valid(req) || len(req) < 25 || len(req) > 2048 || seen[string(req)] {
			t.Fatalf("request %d is %d bytes: %q", n, len(req), req)
		}
		seen[string(req)] = true
		want, err := response(nil, req)
		if err != nil || !json.Valid(want) {
			t.Fatalf("response %q, %v", want, err)
		}
		for i := 4; i < len(req); i++ {
			wrong := []byte(string(req))
			wrong[i] ^= 1
			got, err := response(nil, wrong)
			if err == nil && string(got) == string(want) {
				t.Fatalf("byte %d of %q changed and the answer didn't", i, req)
			}
		}
	}
}

// A median needs three valid rounds; invalid ones don't count and are named.
func TestSummarise(t *testing.T) {
	t.Parallel()
	samples := []sample{
		{Round: 1, Proxy: "bollard", Measure: "m", Value: 10}, {Round: 1, Proxy: "nginx", Measure: "m", Value: 5},
		{Round: 2, Proxy: "bollard", Measure: "m", Value: 30}, {Round: 2, Proxy: "nginx", Measure: "m", Value: 10},
		{Round: 3, Proxy: "bollard", Measure: "m", Value: 20}, {Round: 3, Proxy: "nginx", Measure: "m", Value: 20},
	}
	got, err := summarise(samples)
	want := []summary{{Measure: "m", Median: map[string]float64{"bollard": 20, "nginx": 10}, Ratio: map[string]float64{"nginx": 2}}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	samples[5].Invalid = "wrong bytes"
	_, err = summarise(samples)
	if err == nil || !strings.Contains(err.Error(), "round 3 of nginx doesn't count: wrong bytes") || !strings.Contains(err.Error(), "2 valid rounds") {
		t.Errorf("a round that doesn't count: %v", err)
	}
}
