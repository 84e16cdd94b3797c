package store_test

import (
	"reflect"
	"testing"
	"time"

	"bollard/ca"
	"bollard/fleet"

	"github.com/google/go-cmp/cmp"
)

// fill sets every field to a value of its own, so that a column that is
// forgotten or swapped shows.
func fill(v reflect.Value, n *int) {
	*n++
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(at(*n)))
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		v.SetBytes([]byte{byte(*n), 0, 255})
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n)
		fill(v.Index(1), n)
	case v.Kind() == reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, n)
		fill(value, n)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case v.Kind() == reflect.String:
		v.SetString("text-" + string(rune('a'+*n%26)) + string(rune('a'+*n/26)))
	case v.Kind() == reflect.Int || v.Kind() == reflect.Int64:
		v.SetInt(int64(*n))
	case v.Kind() == reflect.Uint64:
		v.SetUint(uint64(*n))
	case v.Kind() == reflect.Float64:
		v.SetFloat(float64(*n) / 2)
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	default:
		panic("fill a " + v.Type().String())
	}
}

func filledIn[T any]() T {
	var value T
	n := 0
	fill(reflect.ValueOf(&value).Elem(), &n)
	return value
}

func TestEveryFieldIsKept(t *testing.T) {
	t.Parallel()
	s := open(t)
	ctx := t.Context()

	record := filledIn[ca.Record]()
	must(t, s.PutExternal(ctx, record))
	must(t, s.PutVerdicts(ctx, map[string][]byte{record.Serial: record.Verdict}))
	gotRecord, err := s.Certificate(ctx, record.Serial)
	must(t, err)
	if diff := cmp.Diff(record, gotRecord); diff != "" {
		t.Error("record:", diff)
	}

	anchor := filledIn[ca.TrustAnchor]()
	must(t, s.AddAnchor(ctx, anchor))
	anchors, err := s.Anchors(ctx, "")
	must(t, err)
	if diff := cmp.Diff([]ca.TrustAnchor{anchor}, anchors); diff != "" {
		t.Error("anchor:", diff)
	}

	full := filledIn[fleet.Station]()
	must(t, s.AddStations(ctx, []fleet.Station{full, {Identity: "bare"}}))
	for _, want := range []fleet.Station{full, {Identity: "bare"}} {
		got, err := s.Station(ctx, want.Identity)
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error("station:", diff)
		}
	}

	order := filledIn[fleet.Order]()
	order.Station = full.Identity
	must(t, s.AddOrder(ctx, order))
	must(t, s.AddOrder(ctx, fleet.Order{ID: "bare", Station: "bare"}))
	for _, want := range []fleet.Order{order, {ID: "bare", Station: "bare"}} {
		list := s.Orders
		if want.SECC != "" {
			list = s.SECCOrders
		}
		got, err := list(ctx, want.Station, 1)
		must(t, err)
		if diff := cmp.Diff([]fleet.Order{want}, got); diff != "" {
			t.Error("order:", diff)
		}
	}
}
