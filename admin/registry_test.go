package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"bollard/admin"
	"bollard/ca"
	"bollard/fleet"
)

type greeting struct {
	Name string `json:"name"`
}

type greeted struct {
	Text  string `json:"text"`
	Actor string `json:"actor"`
}

// newRegistry has one operation that answers and one that fails with err.
func newRegistry(err error) *admin.Registry {
	r := &admin.Registry{}
	admin.Register(r, "greet", func(ctx context.Context, in greeting) (greeted, error) {
		return greeted{Text: "hello " + in.Name, Actor: admin.Actor(ctx)}, nil
	})
	admin.Register(r, "fail", func(context.Context, struct{}) (struct{}, error) { return struct{}{}, err })
	return r
}

func TestCallInProcess(t *testing.T) {
	t.Parallel()
	ctx := admin.WithActor(t.Context(), "operator:alice")
	got, err := admin.Call[greeting, greeted](ctx, newRegistry(nil), "greet", greeting{"CS-1"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(greeted{"hello CS-1", "operator:alice"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestInvokeDecodesStrictly(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		operation, in string
		fine          bool
	}{
		"as it should be":   {"greet", `{"name":"a"}`, true},
		"nothing given":     {"greet", ``, true},
		"unknown field":     {"greet", `{"name":"a","nam":"b"}`, false},
		"wrong type":        {"greet", `{"name":1}`, false},
		"trailing data":     {"greet", `{"name":"a"}{}`, false},
		"not JSON":          {"greet", `{`, false},
		"unknown operation": {"greet.loudly", `{}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := newRegistry(nil).Invoke(t.Context(), tt.operation, json.RawMessage(tt.in))
			if tt.fine {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var e *admin.Error
			if !errors.As(err, &e) || e.Kind != admin.KindUsage {
				t.Errorf("got %v, want a usage error", err)
			}
		})
	}
}

func TestRegisterTwicePanics(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("the second operation of a name was taken")
		}
	}()
	admin.Register(newRegistry(nil), "greet", func(context.Context, greeting) (greeted, error) { return greeted{}, nil })
}

func TestExplain(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err  error
		kind admin.ErrorKind
		hint bool
	}{
		"unknown station": {fmt.Errorf("couldn't look: %w", fleet.ErrUnknownStation), admin.KindRefused, true},
		"station exists":  {fmt.Errorf("line 7: %w", fleet.ErrStationExists), admin.KindRefused, true},
		"unknown serial":  {ca.ErrUnknownSerial, admin.KindRefused, true},
		"unknown anchor":  {ca.ErrUnknownAnchor, admin.KindRefused, true},
		"clock":           {fmt.Errorf("couldn't sign: %w", ca.ErrClock), admin.KindFailed, true},
		"timeout":         {context.DeadlineExceeded, admin.KindFailed, true},
		"anything else":   {errors.New("disk on fire"), admin.KindFailed, false},
		"explained":       {fmt.Errorf("outer: %w", admin.Usagef("h", "t")), admin.KindUsage, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := admin.Explain(tt.err)
			if e.Kind != tt.kind || (e.Hint != "") != tt.hint || e.Text == "" {
				t.Errorf("got %+v", e)
			}
		})
	}
}

func TestSecretNeverPrints(t *testing.T) {
	t.Parallel()
	s := struct{ Password admin.Secret }{admin.Secret("canary")}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if got := fmt.Sprintf(verb, s); containsCanary(got) {
			t.Errorf("%s prints %s", verb, got)
		}
	}
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back struct{ Password admin.Secret }
	if err := json.Unmarshal(raw, &back); err != nil || string(back.Password) != "canary" {
		t.Errorf("JSON carries %q, %v", back.Password, err)
	}
}

func containsCanary(s string) bool {
	for _, form := range []string{"canary", "63616e617279", "99 97 110"} {
		if strings.Contains(s, form) {
			return true
		}
	}
	return false
}
