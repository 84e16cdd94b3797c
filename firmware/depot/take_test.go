package depot_test

import (
	"io"
	"testing"
	"time"

	"bollard/firmware/depot"
)

// Who keeps its image open gets no more than who downloads it by URL: neither bytes
// nor answers.
func TestTakingIsBounded(t *testing.T) {
	t.Parallel()
	const uses, size = 2, 200_000
	for name, tt := range map[string]struct {
		piece, reads int
	}{
		"the whole again and again": {size, uses},
		"single bytes":              {1, uses*(32+size/4096) - 1}, // one was opening it
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(c *depot.DoorConfig) { c.Uses = uses })
			taking, err := r.Take(t.Context(), depot.Grant{Station: "cs-1", Job: 7, SHA256: sum(r.image), Expires: r.now.Add(time.Hour)})
			if err != nil {
				t.Fatal(err)
			}
			defer taking.Close()
			reads, into := 0, make([]byte, tt.piece)
			for ; reads <= tt.reads; reads++ {
				if n, err := taking.ReadAt(into, 0); err != nil && err != io.EOF || n < len(into) {
					break
				}
			}
			if got := r.Served(7); reads != tt.reads || got.Bytes != int64(tt.reads*tt.piece) {
				t.Errorf("%d reads, %d bytes", reads, got.Bytes)
			}
		})
	}
	// Downloads that run beside each other share one bound, too.
	r := newRig(t, func(c *depot.DoorConfig) { c.Uses = 1 })
	g := depot.Grant{Station: "cs-1", Job: 7, SHA256: sum(r.image), Expires: r.now.Add(time.Hour)}
	var beside [2]*depot.Taking
	for i := range beside {
		var err error
		if beside[i], err = r.Take(t.Context(), g); err != nil {
			t.Fatal(err)
		}
		defer beside[i].Close()
	}
	for _, taking := range beside {
		_, _ = io.ReadFull(io.NewSectionReader(taking, 1, size), make([]byte, size-1))
	}
	if got := r.Served(7); got.Bytes > size {
		t.Errorf("%d bytes of %d were handed out", got.Bytes, size)
	}
}
