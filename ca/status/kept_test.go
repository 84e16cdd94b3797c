package status

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

// A shelf gives back what was put there, whatever was put, dropped and forgotten before,
// and takes no more room than that.
func TestShelf(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	begin := time.Unix(1_800_000_000, 0)
	k, want, most := newShelf(), map[responseID]response{}, 0
	for step := range 20_000 {
		id := responseID{issuer: uint16(random.IntN(2)), algorithm: uint8(random.IntN(2))}
		id.serial[19], id.serial[18] = byte(random.IntN(256)), byte(random.IntN(4))
		switch n := random.IntN(100); {
		case n < 70:
			r := response{
				signed: bytes.Repeat([]byte{byte(step)}, 200+random.IntN(80)), certificate: bytes.Repeat([]byte{byte(n % 3)}, n%3),
				thisUpdate: begin, nextUpdate: begin.Add(time.Duration(step+random.IntN(5000)) * time.Second), keep: true,
			}
			k.put(id, r)
			want[id] = r
		case n < 99:
			k.drop(id)
			delete(want, id)
		default:
			now := begin.Add(time.Duration(step) * time.Second)
			k.sweep(now)
			maps.DeleteFunc(want, func(_ responseID, r response) bool { return !r.usable(now) })
		}
		most = max(most, len(k.blocks))
	}
	if len(k.slips) != len(want) || len(want) < 500 {
		t.Fatalf("%d kept, want %d", len(k.slips), len(want))
	}
	for id, w := range want {
		r, ok := k.get(id, []byte("before"))
		if !ok || !bytes.Equal(r.signed, slices.Concat([]byte("before"), w.signed)) || !bytes.Equal(r.certificate, w.certificate) ||
			!r.thisUpdate.Equal(w.thisUpdate) || !r.nextUpdate.Equal(w.nextUpdate) || !r.keep {
			t.Fatalf("%v: %+v, want %+v", id, r, w)
		}
	}
	if most > 2*2048*280/blockBytes {
		t.Errorf("%d blocks at most, to keep %d responses", most, len(want))
	}
	k.sweep(begin.Add(time.Hour * 24 * 365))
	if len(k.slips) != 0 || len(k.blocks) != 0 {
		t.Errorf("%d kept in %d blocks when all are over", len(k.slips), len(k.blocks))
	}
}

// What no slot holds isn't kept.
func TestShelfLeavesOut(t *testing.T) {
	t.Parallel()
	k, id := newShelf(), responseID{issuer: 1}
	k.put(id, response{signed: []byte("before")})
	for _, signed := range [][]byte{nil, make([]byte, blockBytes)} {
		k.put(id, response{signed: signed})
		if r, ok := k.get(id, nil); ok {
			t.Errorf("of %d bytes %d came back", len(signed), len(r.signed))
		}
	}
	k.put(id, response{signed: make([]byte, blockBytes-1)})
	if r, _ := k.get(id, nil); len(r.signed) != blockBytes-1 {
		t.Errorf("of the longest %d bytes came back", len(r.signed))
	}
}

// The collector has nothing to look at in a kept response.
func TestKeptHasNoPointers(t *testing.T) {
	t.Parallel()
	var plain func(reflect.Type) bool
	plain = func(of reflect.Type) bool {
		switch of.Kind() {
		case reflect.Array:
			return plain(of.Elem())
		case reflect.Struct:
			for field := range of.NumField() {
				if !plain(of.Field(field).Type) {
					return false
				}
			}
			return true
		}
		return of.Kind() >= reflect.Bool && of.Kind() <= reflect.Complex128
	}
	kept := reflect.TypeOf(shelf{}.slips)
	if !plain(kept.Key()) || !plain(kept.Elem()) {
		t.Errorf("%v has a pointer in it", kept)
	}
}
