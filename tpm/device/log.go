package device

import (
	"crypto/sha1" //nolint:gosec // the header of a log has room for one, and it is zero
	"crypto/sha256"
	"encoding/binary"

	"github.com/google/go-tpm/tpm2"
)

// Event is one measurement.
type Event struct {
	Register int
	Digest   [sha256.Size]byte // that the register was extended with
	Data     []byte
}

// Of an event log (TCG PC Client Platform Firmware Profile §10.4.1, table 27).
const (
	eventNoAction = 0x03
	eventIPL      = 0x0d
)

// EventLog tells of measurements in the order they were made, as PC firmware does (§10.2):
// a header in the old form, then events with a SHA-256 each.
func EventLog(events ...Event) []byte {
	le := binary.LittleEndian
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2) // platform class, minor, major, errata, UINTN
	spec = le.AppendUint32(spec, 1)
	spec = le.AppendUint16(spec, uint16(tpm2.TPMAlgSHA256))
	spec = append(le.AppendUint16(spec, sha256.Size), 0) // no vendor's
	log := le.AppendUint32(le.AppendUint32(nil, 0), eventNoAction)
	log = append(log, make([]byte, sha1.Size)...)
	log = append(le.AppendUint32(log, uint32(len(spec))), spec...) //nolint:gosec // some 30 bytes
	for _, e := range events {
		log = le.AppendUint32(le.AppendUint32(log, uint32(e.Register)), eventIPL) //nolint:gosec // 0 to 23
		log = le.AppendUint16(le.AppendUint32(log, 1), uint16(tpm2.TPMAlgSHA256))
		log = append(log, e.Digest[:]...)
		log = append(le.AppendUint32(log, uint32(len(e.Data))), e.Data...) //nolint:gosec // a line
	}
	return log
}
