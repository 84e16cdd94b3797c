package gate_test

import (
	"context"
	"crypto/md5" //nolint:gosec // the checksum PublishFirmware has
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"bollard/firmware/catalogue"
	"bollard/firmware/depot"
	"bollard/firmware/gate"
	"bollard/firmware/job"
	"bollard/firmware/origin"
	"bollard/internal/safehttp"
	"bollard/ledger"
	"bollard/ocpp"
)

// hub is a bench whose station is a local controller, of a site with one station more.
type hub struct {
	*bench
	st     gate.Station
	at     map[string]string // digest behind each location that can be fetched
	events []ledger.Event
	wire   []string // what was sent
	aside  []func(context.Context)
	looks  atomic.Int64 // how often an origin was asked
	busy   error        // what looking meets
	ahead  time.Duration
}

func (h *hub) Find(_ context.Context, location string, _ *depot.Image) (origin.Lead, error) {
	if h.looks.Add(1); h.busy != nil {
		return origin.Lead{}, h.busy
	}
	if digest := h.at[location]; digest != "" {
		return origin.Lead{SHA256: digest}, nil
	}
	return origin.Lead{}, &origin.Fault{Rule: safehttp.RuleAddress, Reason: "no"}
}

func (h *hub) Since(ctx context.Context, location string, since time.Time) (origin.Lead, error) {
	if since.After(h.cfg.Clock()) { // what is fetched now is too old
		return origin.Lead{}, &origin.Underway{}
	}
	return h.Find(ctx, location, nil)
}

func (h *hub) Go(f func(context.Context)) { h.aside = append(h.aside, f) }

func (h *hub) Call(_ context.Context, action string, payload any) (json.RawMessage, error) {
	text, err := json.Marshal(payload)
	if err != nil {
		return nil, err
	}
	h.wire = append(h.wire, action+" "+string(text))
	return json.RawMessage(`{"status":"Accepted"}`), nil
}

func newHub(t *testing.T) *hub {
	t.Helper()
	h := &hub{bench: newBench(t), at: map[string]string{}, st: gate.Station{Key: "lc-1", Vendor: "V", Model: "Hub", Site: "north"}}
	for i := range h.papers.list {
		sum := md5.Sum([]byte(h.papers.list[i].Release.Version)) //nolint:gosec // see the import
		h.papers.list[i].Release.MD5 = hex.EncodeToString(sum[:])
	}
	h.restart(func(c *gate.Config) {
		c.Origins = h
		clock := c.Clock
		c.Clock = func() time.Time { return clock().Add(h.ahead) }
		c.Record = func(_ context.Context, e ledger.Event) error { h.events = append(h.events, e); return nil }
		c.Rule = func(gate.Station) gate.Rule { return gate.Rule{Level: gate.Enforce, SignFill: true} }
		c.Site = func(_ context.Context, site string) ([]gate.Station, error) {
			if site != "north" {
				return nil, nil
			}
			return []gate.Station{h.st, {Key: "cs-1", Vendor: "V", Model: "M"}}, nil
		}
	})
	return h
}

func (h *hub) request(st gate.Station, action string, payload any) string {
	h.t.Helper()
	text, err := json.Marshal(payload)
	if err != nil {
		h.t.Fatal(err)
	}
	v := h.g.Request(h.t.Context(), h, st, action, text, false)
	if v.Later != nil {
		v = v.Later(h.t.Context())
	}
	answer, err := json.Marshal(v.Answer)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(answer) + string(v.Code)
}

// publish has the back end ask the local controller to offer a version, and say where.
func (h *hub) publish(version string, change func(m map[string]any)) string {
	m := map[string]any{"requestId": 7, "location": "https://x/y", "checksum": h.md5(version), "retries": 50}
	if change != nil {
		change(m)
	}
	return h.request(h.st, ocpp.ActionPublishFirmware, m)
}

func (h *hub) md5(version string) string {
	for _, e := range h.papers.list {
		if e.Release.Version == version {
			return e.Release.MD5
		}
	}
	return strings.Repeat("0", 32)
}

func (h *hub) say(status string, places ...string) gate.Verdict {
	h.t.Helper()
	text, err := json.Marshal(ocpp.PublishFirmwareStatusRequest{Status: status, Location: places})
	if err != nil {
		h.t.Fatal(err)
	}
	v := h.g.Report(h.t.Context(), h, h.st, ocpp.ActionPublishStatus, text)
	for _, f := range h.aside {
		f(h.t.Context())
	}
	h.aside = nil
	return v
}

// update has the back end send a station to a location.
func (h *hub) update(st gate.Station, location string) string {
	return h.request(st, ocpp.ActionUpdateFirmware, map[string]any{"requestId": 8, "firmware": map[string]any{"location": location, "retrieveDateTime": "2026-06-02T12:00:00Z"}})
}

// A local controller is given nothing but what is published for stations of its site.
func TestPublishIsVetted(t *testing.T) { // L03, promise 10
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(h *hub, m map[string]any)
		want   string
	}{
		"a release":         {func(*hub, map[string]any) {}, "Accepted"},
		"in capitals":       {func(_ *hub, m map[string]any) { m["checksum"] = strings.ToUpper(m["checksum"].(string)) }, "Accepted"},
		"of no site":        {func(h *hub, _ map[string]any) { h.st.Site = "" }, "GwPublish"},
		"of another site":   {func(h *hub, _ map[string]any) { h.st.Site = "south" }, "GwWrongModel"},
		"none of its model": {func(h *hub, _ map[string]any) { h.papers.list[0].Release.Models[0].Model = "Other" }, "GwWrongModel"},
		"revoked":           {func(h *hub, _ map[string]any) { h.revoke(0) }, "GwRevoked"},
		"not published":     {func(h *hub, _ map[string]any) { h.papers.list[0].State = catalogue.Added }, "GwUnapproved"},
		"halted":            {func(h *hub, _ map[string]any) { h.papers.list[0].State = catalogue.Halted }, "GwHalted"},
		"expired":           {func(h *hub, _ map[string]any) { h.papers.list[0].Release.Expires = h.papers.list[0].Release.NotBefore }, "GwFrozen"},
		"no checksum in it": {func(h *hub, m map[string]any) {
			h.papers.list[0].Release.MD5 = ""
			h.at["https://x/y"] = h.papers.list[0].Release.SHA256
		}, "GwNoChecksum"},
		"an unknown checksum": {func(_ *hub, m map[string]any) { m["checksum"] = strings.Repeat("0", 32) }, "GwLocation"},
		"of another image": {func(h *hub, m map[string]any) {
			m["checksum"] = strings.Repeat("0", 32)
			h.at["https://x/y"] = h.papers.list[0].Release.SHA256
		}, "GwDigest"},
		"no digits":     {func(_ *hub, m map[string]any) { m["checksum"] = strings.Repeat("x", 32) }, "FormatViolation"},
		"too short":     {func(_ *hub, m map[string]any) { m["checksum"] = "00" }, "FormatViolation"},
		"no request":    {func(_ *hub, m map[string]any) { delete(m, "requestId") }, "FormatViolation"},
		"a space":       {func(_ *hub, m map[string]any) { m["location"] = "https://x/y z" }, "FormatViolation"},
		"in quarantine": {func(h *hub, _ map[string]any) { h.jailed = true }, "GwQuarantined"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHub(t)
			got := h.publish("1.0.0", func(m map[string]any) { tt.change(h, m) })
			if !strings.Contains(got, tt.want) || (tt.want == "Accepted") != (len(h.wire) == 1) {
				t.Fatalf("%s, sent %v; want %s", got, h.wire, tt.want)
			}
			if tt.want != "Accepted" {
				return
			}
			r := h.papers.list[0].Release
			if want := `PublishFirmware {"requestId":7,"location":"https://fw.example/d/` + r.SHA256 + `/x/x.bin","checksum":"` + r.MD5 + `","retries":10}`; h.wire[0] != want {
				t.Errorf("sent %s, want %s", h.wire[0], want)
			}
			if got := h.publish("2.0.0", nil); !strings.Contains(got, "GwBusy") {
				t.Errorf("a second one: %s", got)
			}
		})
	}
}

// Where an image is offered only stations of that site are sent, only as long as it is
// offered, and only if it is the image when Bollard looks.
func TestPublishedNearby(t *testing.T) { // L03, L04, promise 10
	t.Parallel()
	const place = "http://10.0.0.1/fw"
	near, far := gate.Station{Key: "cs-1", Vendor: "V", Model: "M", Site: "north"}, gate.Station{Key: "cs-2", Vendor: "V", Model: "M", Site: "south"}
	published := func(t *testing.T) *hub {
		h := newHub(t)
		h.publish("2.0.0", nil)
		h.whole = true
		h.at[place] = h.papers.list[1].Release.SHA256
		for _, status := range []string{"Downloading", "Downloaded", "ChecksumVerified"} {
			h.say(status)
		}
		if v := h.say("Published", place); v.Answer != nil || v.Code != "" || v.Rewrite != nil {
			t.Errorf("its word was held back: %+v", v)
		}
		h.wire = nil
		return h
	}
	t.Run("its site", func(t *testing.T) {
		t.Parallel()
		h := published(t)
		if j := h.shelf.jobs[0]; j.State != job.Published || j.Publication.ConfirmedAt.IsZero() || j.Publication.Places[0] != sum(place) {
			t.Fatalf("%s (%s) %+v", j.State, j.Reason, j.Publication)
		}
		if got := h.update(far, place); !strings.Contains(got, "GwOtherSite") {
			t.Errorf("of another site: %s", got)
		}
		if got := h.update(gate.Station{Key: "cs-3", Vendor: "V", Model: "M"}, place); !strings.Contains(got, "GwOtherSite") {
			t.Errorf("of no site: %s", got)
		}
		if got := h.update(near, place); !strings.Contains(got, "Accepted") || len(h.wire) != 1 || !strings.Contains(h.wire[0], `"location":"`+place+`"`) || !strings.Contains(h.wire[0], `"signature":"2.0.0"`) {
			t.Errorf("of its own: %s, sent %v", got, h.wire)
		}
		if e := h.events[len(h.events)-1]; e.Kind != "firmware.outside" || e.Data["published-by"] != "lc-1" || e.Subject != "cs-1" {
			t.Errorf("recorded: %+v", h.events)
		}
	})
	t.Run("another image now", func(t *testing.T) {
		t.Parallel()
		h := published(t)
		h.at[place] = h.papers.list[0].Release.SHA256
		if got := h.update(near, place); !strings.Contains(got, "GwDigest") || len(h.wire) > 0 {
			t.Errorf("%s, sent %v", got, h.wire)
		}
		delete(h.at, place)
		if got := h.update(near, place); !strings.Contains(got, "GwLocation") || len(h.wire) > 0 {
			t.Errorf("out of reach: %s, sent %v", got, h.wire)
		}
	})
	t.Run("another image at once", func(t *testing.T) {
		t.Parallel()
		h := newHub(t)
		h.publish("2.0.0", nil)
		h.whole, h.at[place] = true, h.papers.list[0].Release.SHA256
		h.say("Published", "http://10.0.0.1/away", place)
		if j := h.shelf.jobs[0]; j.State != job.Mismatch || !strings.Contains(j.Reason, "another image") {
			t.Errorf("%s (%s)", j.State, j.Reason)
		}
	})
	t.Run("revoked since", func(t *testing.T) {
		t.Parallel()
		h := published(t)
		h.revoke(1)
		if got := h.update(near, place); !strings.Contains(got, "GwRevoked") || len(h.wire) > 0 {
			t.Errorf("%s, sent %v", got, h.wire)
		}
	})
	t.Run("ended", func(t *testing.T) {
		t.Parallel()
		h := published(t)
		if got := h.request(h.st, ocpp.ActionUnpublishFirmware, map[string]any{"checksum": h.md5("1.0.0")}); got != "null" || h.shelf.jobs[0].State != job.Published {
			t.Errorf("another image's end: %s, %s", got, h.shelf.jobs[0].State)
		}
		if got := h.request(h.st, ocpp.ActionUnpublishFirmware, map[string]any{"checksum": strings.ToUpper(h.md5("2.0.0"))}); got != "null" || h.shelf.jobs[0].State != job.Unpublished {
			t.Errorf("%s, %s", got, h.shelf.jobs[0].State)
		}
		// The location is one like any other again.
		if got := h.update(near, place); !strings.Contains(got, "Accepted") || !strings.Contains(h.wire[0], "https://fw.example/d/") {
			t.Errorf("%s, sent %v", got, h.wire)
		}
	})
	t.Run("its number was used before", func(t *testing.T) {
		t.Parallel()
		h := published(t)
		h.publish("1.0.0", nil)
		id := *mustRead(t, h.wire[0]).RequestID
		text, err := json.Marshal(ocpp.PublishFirmwareStatusRequest{Status: "Downloading", RequestID: &id})
		if err != nil {
			t.Fatal(err)
		}
		if v := h.g.Report(t.Context(), h, h.st, ocpp.ActionPublishStatus, text); id == 7 || string(v.Rewrite) != `{"requestId":7,"status":"Downloading"}` {
			t.Errorf("requestId %d: %+v", id, v)
		}
		// Firmware of its own is another matter.
		if h.g.Report(t.Context(), h, h.st, ocpp.ActionFirmwareStatus, []byte(`{"status":"Installing"}`)); h.shelf.jobs[1].State != job.Downloading {
			t.Errorf("its own firmware's word made it %s", h.shelf.jobs[1].State)
		}
	})
}

// A local controller that offers to others what it wasn't seen to verify cheats no less
// when it runs that.
func TestPublicationHidesNoCheat(t *testing.T) { // L01.FR.01, L03, promise 10
	t.Parallel()
	h := newHub(t)
	h.st.Model = "M"
	h.at["https://x/y"] = h.papers.list[0].Release.SHA256
	if got := h.update(h.st, "https://x/y"); !strings.Contains(got, "Accepted") {
		t.Fatal(got)
	}
	if _, err := h.g.Cancel(t.Context(), "operator", h.st.Key, "x"); err != nil {
		t.Fatal(err)
	}
	if got := h.publish("1.0.0", nil); !strings.Contains(got, "Accepted") {
		t.Fatal(got)
	}
	h.g.Boot(t.Context(), h, h.st, []byte(`{"reason":"FirmwareUpdate","chargingStation":{"vendorName":"V","model":"M","firmwareVersion":"1.0.0"}}`))
	if j := h.shelf.jobs[0]; j.State != job.Quarantined {
		t.Errorf("%s (%s)", j.State, j.Reason)
	}
}

// By its word alone no place is a local controller's: one that can't be looked at is a
// location like any other, until Bollard has seen the image there.
func TestPlacesAreSeen(t *testing.T) { // L03, promise 10
	t.Parallel()
	const place = "https://vendor.example/fw"
	h := newHub(t)
	near, far := gate.Station{Key: "cs-1", Vendor: "V", Model: "M", Site: "north"}, gate.Station{Key: "cs-2", Vendor: "V", Model: "M", Site: "south"}
	update := func(st gate.Station, want string) {
		t.Helper()
		h.wire, h.shelf.jobs = nil, h.shelf.jobs[:1]
		if got := h.update(st, place); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", st.Key, got, want)
		}
	}
	look := func(ahead time.Duration, want bool) {
		t.Helper()
		h.ahead += ahead
		if err := h.g.Look(t.Context()); err != nil {
			t.Error(err)
		}
		if p := h.shelf.jobs[0].Publication; (len(p.Confirmed) > 0) != want {
			t.Errorf("after %s: confirmed %v", h.ahead, p.Confirmed)
		}
	}
	h.publish("2.0.0", nil)
	h.whole = true
	h.say("Published", place)
	look(0, false)
	update(far, "GwLocation")
	update(near, "GwLocation")
	h.at[place] = h.papers.list[1].Release.SHA256
	update(near, "Accepted")
	if !strings.Contains(h.wire[0], "https://fw.example/d/") {
		t.Errorf("sent %v", h.wire)
	}
	h.shelf.jobs = h.shelf.jobs[:1]
	look(0, false) // it isn't tried again that soon
	look(11*time.Minute, true)
	update(far, "GwOtherSite")
	update(near, "Accepted")
	if !strings.Contains(h.wire[0], place) {
		t.Errorf("sent %v", h.wire)
	}

	// A restart forgets the place, until a back end names it; nothing is tried for ever.
	h = newHub(t)
	h.publish("2.0.0", nil)
	h.whole, h.busy = true, origin.ErrCrowded
	h.say("Published", place)
	h.restart(func(*gate.Config) {})
	h.busy, h.at[place] = nil, h.papers.list[1].Release.SHA256
	look(0, false)
	update(near, "Accepted")
	look(0, true)
	h = newHub(t)
	h.publish("2.0.0", nil)
	h.whole = true
	h.say("Published", place)
	look(61*time.Minute, false)
	before := h.looks.Load()
	if look(11*time.Minute, false); h.looks.Load() != before {
		t.Error("it is looked for ever")
	}
}

// However many places a local controller names, it costs few fetches.
func TestPlacesAreFew(t *testing.T) { // promise 10
	t.Parallel()
	h := newHub(t)
	h.publish("2.0.0", nil)
	h.whole = true
	var places []string
	for i := range 100 {
		places = append(places, fmt.Sprint("http://10.0.0.1/", i))
		h.at[places[i]] = h.papers.list[1].Release.SHA256
	}
	before := h.looks.Load()
	h.say("Published", places...)
	if err := h.g.Look(t.Context()); err != nil {
		t.Error(err)
	}
	if n := h.looks.Load() - before; n != job.MaxPlaces || len(h.shelf.jobs[0].Publication.Confirmed) != job.MaxPlaces {
		t.Errorf("%d fetches, want %d: %+v", n, job.MaxPlaces, h.shelf.jobs[0].Publication)
	}
}

// However many stations were elsewhere, one look waits a second for all of them.
func TestLooksWaitTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		sent := true
		b.restart(func(c *gate.Config) {
			c.Rule = func(gate.Station) gate.Rule {
				return gate.Rule{Level: gate.Enforce, SignFill: true, Place: gate.Origin}
			}
			c.Origins = afar(func(ctx context.Context, _ *depot.Image) (origin.Lead, error) {
				if sent {
					return origin.Lead{SHA256: b.papers.list[0].Release.SHA256}, nil
				}
				<-ctx.Done()
				return origin.Lead{}, &origin.Underway{}
			})
		})
		for i := range 20 {
			st := gate.Station{Key: fmt.Sprint("cs-", i), Vendor: "V", Model: "M"}
			v := b.g.Request(t.Context(), b, st, ocpp.ActionUpdateFirmware, []byte(`{"requestId":7,"firmware":{"location":"https://x/y","retrieveDateTime":"2026-06-02T12:00:00Z"}}`), false)
			if text, err := json.Marshal(v.Later(t.Context()).Answer); err != nil || !strings.Contains(string(text), "Accepted") {
				t.Fatalf("%s, %v", text, err)
			}
			b.g.Report(t.Context(), b, st, ocpp.ActionFirmwareStatus, []byte(`{"status":"Downloaded"}`))
		}
		sent = false
		began := time.Now()
		if err := b.g.Look(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// Where a station downloads elsewhere is looked at again once it has been there, also
// through restarts.
func TestOutsideIsLookedAtAgain(t *testing.T) { // promise 10
	t.Parallel()
	st := gate.Station{Key: "cs-1", Vendor: "V", Model: "M"}
	for name, tt := range map[string]struct {
		then    func(h *hub)
		found   string
		swapped int
		unseen  int
		after   time.Duration // how long it isn't known
	}{
		"the same":             {func(*hub) {}, "the image", 0, 0, 0},
		"another one":          {func(h *hub) { h.at["https://x/y"] = h.papers.list[1].Release.SHA256 }, "another image", 1, 0, 0},
		"gone":                 {func(h *hub) { delete(h.at, "https://x/y") }, "nothing that can be looked at", 0, 1, 0},
		"too many are fetched": {func(h *hub) { h.busy = origin.ErrCrowded }, "the image", 0, 0, time.Minute},
		"a bad disk":           {func(h *hub) { h.busy = errors.New("no space left on device") }, "the image", 0, 0, time.Minute},
		"for ever":             {func(h *hub) { h.busy = origin.ErrCrowded }, "nothing that can be looked at", 0, 1, 2 * time.Hour},
	} {
		for _, restarted := range []string{"", "Accepted", "Downloaded"} {
			t.Run(name+", restarted "+restarted, func(t *testing.T) {
				t.Parallel()
				h := newHub(t)
				swapped, unseen := 0, 0
				h.restart(func(c *gate.Config) {
					c.Rule = func(gate.Station) gate.Rule {
						return gate.Rule{Level: gate.Enforce, SignFill: true, Place: gate.Origin}
					}
					c.Swapped = func(context.Context, string) error { swapped++; return nil }
					c.Unseen = func(context.Context, string) error { unseen++; return nil }
				})
				h.at["https://x/y"] = h.papers.list[0].Release.SHA256
				if got := h.update(st, "https://x/y"); !strings.Contains(got, "Accepted") {
					t.Fatal(got)
				}
				stop := func(after string) {
					if after != restarted {
						return
					}
					h.restart(func(*gate.Config) {})
					if err := h.g.Resume(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				stop("Accepted")
				tt.then(h)
				look := func() int {
					if err := h.g.Look(t.Context()); err != nil {
						t.Error(err)
					}
					n := 0
					for _, e := range h.events {
						if e.Kind == "firmware.outside-checked" {
							if n++; e.Subject != "cs-1" || e.Data["found"] != tt.found || (e.Data["found-sha256"] != "") != (tt.swapped > 0) {
								t.Errorf("%+v", e)
							}
						}
					}
					return n
				}
				if n := look(); n != 0 {
					t.Error("it was looked at before the station had been there")
				}
				for _, status := range []string{"Downloading", "Downloaded"} {
					h.g.Report(t.Context(), h, st, ocpp.ActionFirmwareStatus, []byte(`{"status":"`+status+`"}`))
					stop(status)
				}
				if tt.after > 0 {
					if n := look(); n != 0 {
						t.Error("what isn't known is told")
					}
					if h.ahead = tt.after; tt.unseen == 0 {
						h.busy = nil
					}
				}
				if n := look(); n != 1 || swapped != tt.swapped || unseen != tt.unseen {
					t.Errorf("looked %d times, told %d and %d times", n, swapped, unseen)
				}
				stop(restarted)
				if n := look(); n != 1 {
					t.Error("once more")
				}
				if left, err := h.Visits(t.Context()); err != nil || len(left) > 0 {
					t.Errorf("its location is kept on: %v, %v", left, err)
				}
			})
		}
	}
}

func mustRead(t *testing.T, sent string) ocpp.PublishFirmwareRequest {
	t.Helper()
	var m ocpp.PublishFirmwareRequest
	_, text, _ := strings.Cut(sent, " ")
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func sum(text string) string {
	s := sha256.Sum256([]byte(text))
	return hex.EncodeToString(s[:])
}
