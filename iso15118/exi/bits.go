package exi

import (
	"fmt"
	"math/big"
)

// bitReader reads most significant bit first.
type bitReader struct {
	data []byte
	pos  int // in bits
}

// left is how many whole bytes can still be read.
func (r *bitReader) left() int { return (len(r.data)*8 - r.pos) / 8 }

// read returns the next n bits, at most 32.
func (r *bitReader) read(n int) (uint32, error) {
	if r.pos+n > len(r.data)*8 {
		return 0, errEnd
	}
	var v uint32
	for n > 0 {
		have := 8 - r.pos%8
		take := min(n, have)
		b := uint32(r.data[r.pos/8]) >> (have - take) & (1<<take - 1)
		v = v<<take | b
		r.pos += take
		n -= take
	}
	return v, nil
}

// octets returns n whole bytes, of which the caller has seen that they are left.
func (r *bitReader) octets(n int) ([]byte, error) {
	if n > r.left() {
		return nil, errEnd
	}
	out := make([]byte, n)
	shift := r.pos % 8
	from := r.data[r.pos/8:]
	if shift == 0 {
		copy(out, from)
	} else {
		for i := range out {
			out[i] = from[i]<<shift | from[i+1]>>(8-shift)
		}
	}
	r.pos += n * 8
	return out, nil
}

// unsigned reads an Unsigned Integer that fits 64 bits (EXI 1.0 §7.1.6).
func (r *bitReader) unsigned() (uint64, error) {
	var v uint64
	for shift := 0; ; shift += 7 {
		b, err := r.read(8)
		if err != nil {
			return 0, err
		}
		part := uint64(b & 0x7f)
		if shift > 63 || part<<shift>>shift != part {
			return 0, fmt.Errorf("an integer of more than 64 bits")
		}
		v |= part << shift
		if b < 0x80 {
			return v, nil
		}
	}
}

// bigUnsigned reads an Unsigned Integer of at most limit bits.
func (r *bitReader) bigUnsigned(limit int) (*big.Int, error) {
	var parts []byte // least significant first
	for {
		b, err := r.read(8)
		if err != nil {
			return nil, err
		}
		if len(parts)*7 > limit {
			return nil, fmt.Errorf("an integer of more than %d bits", limit)
		}
		parts = append(parts, byte(b&0x7f))
		if b < 0x80 {
			break
		}
	}
	v := new(big.Int)
	for i := len(parts) - 1; i >= 0; i-- {
		v.Lsh(v, 7)
		v.Or(v, big.NewInt(int64(parts[i])))
	}
	return v, nil
}

// bitWriter writes most significant bit first.
type bitWriter struct {
	out  []byte
	free int // bits of the last byte that aren't written
}

// write appends the low n bits of v, at most 32.
func (w *bitWriter) write(v uint32, n int) {
	for n > 0 {
		if w.free == 0 {
			w.out = append(w.out, 0)
			w.free = 8
		}
		take := min(n, w.free)
		b := byte(v >> (n - take) & (1<<take - 1))
		w.out[len(w.out)-1] |= b << (w.free - take)
		w.free -= take
		n -= take
	}
}

func (w *bitWriter) octets(b []byte) {
	if w.free == 0 {
		w.out = append(w.out, b...)
		return
	}
	for _, c := range b {
		w.write(uint32(c), 8)
	}
}

func (w *bitWriter) unsigned(v uint64) {
	for v >= 0x80 {
		w.write(uint32(v&0x7f|0x80), 8)
		v >>= 7
	}
	w.write(uint32(v), 8)
}

func (w *bitWriter) bigUnsigned(v *big.Int) {
	rest, low := new(big.Int).Set(v), new(big.Int)
	mask := big.NewInt(0x7f)
	for rest.BitLen() > 7 {
		w.write(uint32(low.And(rest, mask).Uint64())|0x80, 8)
		rest.Rsh(rest, 7)
	}
	w.write(uint32(rest.Uint64()), 8)
}

// bytes returns what was written, padded with zeros.
func (w *bitWriter) bytes() []byte { return w.out }
