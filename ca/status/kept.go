package status

import (
	"bytes"
	"math/big"
	"time"
)

// serialNumber is a positive serial number, big-endian (RFC 5280 §4.1.2.2).
type serialNumber [maxSerialBytes]byte

// responseID names a kept response.
type responseID struct {
	issuer    uint16 // publication.number
	algorithm uint8  // index of hashAlgorithms
	serial    serialNumber
}

// serialOf is not ok for a number that no certificate has.
func serialOf(n *big.Int) (serial serialNumber, ok bool) {
	if n.Sign() <= 0 || n.BitLen() > 8*maxSerialBytes {
		return serial, false
	}
	n.FillBytes(serial[:])
	return serial, true
}

// What is signed lies in blocks, in slots of whole units.
const (
	blockBytes = 64 << 10
	unit       = 16
	perBlock   = blockBytes / unit
)

// slip is what is known of a kept response.
type slip struct {
	at         uint32 // its slot's first unit, counted over all blocks
	length     uint16
	companion  uint16 // index
	thisUpdate int64  // seconds since 1970
	nextUpdate int64
}

// shelf holds the responses that were signed ahead. There may be hundreds of thousands, and
// the collector looks at what lives more than ten times a second while many ask: nothing
// in a response is a pointer, so that it has none of them to look at.
type shelf struct {
	slips      map[responseID]slip
	blocks     [][]byte
	used       int              // units of the last block
	free       map[int][]uint32 // slots given back, by their units
	companions [][]byte         // certificates of signers, nil for an issuer's own
}

func newShelf() *shelf {
	return &shelf{slips: map[responseID]slip{}, used: perBlock, free: map[int][]uint32{}}
}

// get returns what is kept, what was signed at the end of buf: the shelf's own may be
// another's as soon as its lock is released.
func (k *shelf) get(id responseID, buf []byte) (response, bool) {
	s, ok := k.slips[id]
	if !ok {
		return response{}, false
	}
	return response{
		signed: append(buf, k.slot(s)...), certificate: k.companions[s.companion], keep: true,
		thisUpdate: time.Unix(s.thisUpdate, 0), nextUpdate: time.Unix(s.nextUpdate, 0),
	}, true
}

func (k *shelf) slot(s slip) []byte {
	from := int(s.at%perBlock) * unit
	return k.blocks[s.at/perBlock][from : from+int(s.length)]
}

// fresh says whether there is a response, and one that needn't be signed anew yet.
func (k *shelf) fresh(id responseID, now time.Time) (there, fresh bool) {
	s, there := k.slips[id]
	return there, there && now.Before(time.Unix(s.thisUpdate, 0).Add(refreshAfter))
}

// put keeps a response of less than a block in place of the one there was. Others are
// left to be signed when asked for.
func (k *shelf) put(id responseID, r response) {
	k.drop(id)
	if len(r.signed) == 0 || len(r.signed) >= blockBytes {
		return
	}
	s := slip{
		at: k.room(units(len(r.signed))), length: uint16(len(r.signed)), companion: k.companion(r.certificate),
		thisUpdate: r.thisUpdate.Unix(), nextUpdate: r.nextUpdate.Unix(),
	}
	copy(k.slot(s), r.signed)
	k.slips[id] = s
}

func units(length int) int { return (length + unit - 1) / unit }

// room finds a slot: one that was given back, or else a new one.
func (k *shelf) room(size int) uint32 {
	if list := k.free[size]; len(list) > 0 {
		k.free[size] = list[:len(list)-1]
		return list[len(list)-1]
	}
	if k.used+size > perBlock {
		k.blocks, k.used = append(k.blocks, make([]byte, blockBytes)), 0
	}
	at := (len(k.blocks)-1)*perBlock + k.used
	k.used += size
	return uint32(at)
}

// companion finds a signer's certificate, of which there are few.
func (k *shelf) companion(certificate []byte) uint16 {
	for i, known := range k.companions {
		if bytes.Equal(known, certificate) {
			return uint16(i)
		}
	}
	k.companions = append(k.companions, certificate)
	return uint16(len(k.companions) - 1)
}

func (k *shelf) drop(id responseID) {
	if s, ok := k.slips[id]; ok {
		delete(k.slips, id)
		size := units(int(s.length))
		k.free[size] = append(k.free[size], s.at)
	}
}

// sweep forgets what nobody may be given any more. What is left is put together anew once
// it takes a quarter of the room.
func (k *shelf) sweep(now time.Time) {
	taken := 0
	for id, s := range k.slips {
		if now.Before(time.Unix(s.nextUpdate, 0)) {
			taken += units(int(s.length))
		} else {
			k.drop(id)
		}
	}
	if len(k.blocks) < 2 || 4*taken > len(k.blocks)*perBlock {
		return
	}
	anew := newShelf()
	for id := range k.slips {
		r, _ := k.get(id, nil)
		anew.put(id, r)
	}
	*k = *anew
}
