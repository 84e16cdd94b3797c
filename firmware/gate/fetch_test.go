package gate_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bollard/firmware/depot"
	"bollard/firmware/gate"
	"bollard/firmware/origin"
	"bollard/firmware/release"
	"bollard/internal/safehttp"
	"bollard/ocpp"
)

// afar is an origin that answers as the test says.
type afar func(ctx context.Context, want *depot.Image) (origin.Lead, error)

func (f afar) Find(ctx context.Context, _ string, want *depot.Image) (origin.Lead, error) {
	return f(ctx, want)
}

func (f afar) Since(ctx context.Context, _ string, _ time.Time) (origin.Lead, error) {
	return f(ctx, nil)
}

// as is a bench that speaks another version.
type as struct {
	*bench
	version ocpp.Version
}

func (a as) Version() ocpp.Version { return a.version }

// A back end is told what is wrong with a location, each version in its way; that it
// isn't known yet is told in half of the time its CALL has, and isn't called wrong.
func TestLocationsAnswer(t *testing.T) {
	t.Parallel()
	fault := func(rule safehttp.Rule) afar {
		return func(context.Context, *depot.Image) (origin.Lead, error) {
			return origin.Lead{}, &origin.Fault{Rule: rule, Reason: "no"}
		}
	}
	const refused, later, failed = `SecurityError`, `GenericError`, `InternalError`
	for name, tt := range map[string]struct {
		origin afar
		new    string // in the answer of 2.0.1
		old    string // error code of 1.6 UpdateFirmware; "": sent
	}{
		"no such":       {func(context.Context, *depot.Image) (origin.Lead, error) { return origin.Lead{}, nil }, "GwUnknownRelease", refused},
		"a release":     {nil, "Accepted", ""},
		"not to be had": {fault(safehttp.RuleAddress), "GwLocation", refused},
		"too large":     {fault(safehttp.RuleSize), "GwSize", refused},
		"another image": {fault(""), "GwDigest", refused},
		"not known yet": {func(ctx context.Context, _ *depot.Image) (origin.Lead, error) {
			<-ctx.Done()
			return origin.Lead{}, &origin.Underway{Lead: origin.Lead{Here: 3, Size: 9}}
		}, `GwFetching","additionalInfo":"it is being fetched, 3 of 9 bytes are here: ask again"`, later},
		"the disk is bad": {func(context.Context, *depot.Image) (origin.Lead, error) { return origin.Lead{}, context.Canceled }, "GwFailure", failed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t)
				if tt.origin == nil { // the one that is what it leads to
					tt.origin = func(context.Context, *depot.Image) (origin.Lead, error) {
						return origin.Lead{SHA256: b.papers.list[1].Release.SHA256}, nil
					}
				}
				b.restart(func(c *gate.Config) {
					c.Origins = tt.origin
					c.Rule = func(gate.Station) gate.Rule { return gate.Rule{Level: gate.Enforce, SignFill: true, Upgrade: true} }
				})
				st := gate.Station{Key: "cs-1", Vendor: "V", Model: "M"}
				ask := func(version ocpp.Version, payload string) gate.Verdict {
					t.Helper()
					ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
					defer cancel()
					began := time.Now()
					v := b.g.Request(ctx, as{b, version}, st, "UpdateFirmware", []byte(payload), false)
					if v.Later == nil {
						t.Fatalf("%+v", v)
					}
					v = v.Later(ctx)
					if took := time.Since(began); took > 15*time.Second {
						t.Errorf("the CALL was held for %s of 30 s", took)
					}
					return v
				}
				v := ask(ocpp.V201, `{"requestId":7,"firmware":{"location":"https://x/y","retrieveDateTime":"2026-06-02T12:00:00Z"}}`)
				if text, err := json.Marshal(v.Answer); err != nil || !strings.Contains(string(text), tt.new) {
					t.Errorf("2.0.1: %s %s, %v; want %s", text, v.Code, err, tt.new)
				}
				b.shelf.jobs = nil
				if v := ask(ocpp.V16, `{"location":"https://x/y","retrieveDate":"2026-06-02T12:00:00Z"}`); string(v.Code) != tt.old {
					t.Errorf("1.6: %+v, want %q", v, tt.old)
				}
			})
		})
	}
}

// granted notes until when stations may download.
type granted struct {
	gate.Door
	until []time.Time
}

func (g *granted) URL(grant depot.Grant, name string) (string, error) {
	g.until = append(g.until, grant.Expires)
	return g.Door.URL(grant, name)
}

// What is to begin, or to be installed, in more than 30 days is refused: the station could
// get nothing else until then. It may download for 48 hours from the begin.
func TestFarAhead(t *testing.T) {
	t.Parallel()
	seen := &granted{}
	b := newBench(t) // whose clock goes on from 12:00 on 1 June
	b.restart(func(cfg *gate.Config) { seen.Door, cfg.Door = cfg.Door, seen })
	for when, refused := range map[string]bool{
		`"retrieveDateTime":"2026-07-01T12:00:00Z"`: false, `"retrieveDateTime":"2026-07-01T13:00:00Z"`: true,
		`"retrieveDateTime":"2026-06-02T12:00:00Z","installDateTime":"2026-07-01T13:00:00Z"`: true,
	} {
		b.shelf.jobs = nil
		payload := []byte(`{"requestId":7,"firmware":{"location":"https://x/y",` + when + `,"signingCertificate":"c","signature":"1.0.0"}}`)
		v := b.g.Request(t.Context(), b, gate.Station{Key: "cs-1", Vendor: "V", Model: "M"}, "UpdateFirmware", payload, false).Later(t.Context())
		if text, err := json.Marshal(v.Answer); err != nil || strings.Contains(string(text), "GwTooFar") != refused || strings.Contains(string(text), "Accepted") == refused {
			t.Errorf("%s: %s, %v", when, text, err)
		}
	}
	if want := []time.Time{time.Date(2026, 7, 3, 12, 0, 0, 0, time.UTC)}; !slices.Equal(seen.until, want) {
		t.Errorf("downloads are open until %v, want %v", seen.until, want)
	}
}

// A release for certain revisions goes to stations that are known to be of one.
func TestHardwareRevisions(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.papers.list[0].Release.Models = []release.Model{{Vendor: "V", Model: "M", Hardware: []string{"B1", "B2"}}}
	for revision, want := range map[string]string{"": "of an unknown revision, but for B1, B2: `bollard station group cs-1 --hardware", "A": "V M A, but for B1, B2", "B2": ""} {
		b.shelf.jobs = nil
		payload := []byte(`{"requestId":7,"firmware":{"location":"https://x/y","retrieveDateTime":"2026-06-02T12:00:00Z","signingCertificate":"c","signature":"1.0.0"}}`)
		v := b.g.Request(t.Context(), b, gate.Station{Key: "cs-1", Vendor: "V", Model: "M", Hardware: revision}, "UpdateFirmware", payload, false).Later(t.Context())
		text, err := json.Marshal(v.Answer)
		if err != nil || want == "" && !strings.Contains(string(text), "Accepted") || want != "" && (!strings.Contains(v.Reason, want) || !strings.Contains(string(text), "GwWrongModel")) {
			t.Errorf("revision %q: %s, %q, %v", revision, text, v.Reason, err)
		}
	}
}
