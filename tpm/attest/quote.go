package attest

import (
	"bytes"
	"crypto"
	"crypto/subtle"
	"fmt"
	"maps"
	"slices"

	"github.com/google/go-attestation/attest"
	"github.com/google/go-tpm/tpm2"
)

// Registers are values of platform configuration registers in the SHA-256 bank.
type Registers map[int][]byte

// A PC client's TPM has 24; each value is a SHA-256.
const (
	registers    = 24
	registerSize = 32
)

// Check refuses what can't be registers.
func (r Registers) Check() error {
	for i, v := range r {
		if i < 0 || i >= registers || len(v) != registerSize {
			return fmt.Errorf("%w: register %d of %d bytes: give 0 to %d, SHA-256", ErrMalformed, i, len(v), registers-1)
		}
	}
	return nil
}

// Indexes in rising order, as a TPM hashes them.
func (r Registers) Indexes() []int { return slices.Sorted(maps.Keys(r)) }

// Quote is a TPM's statement about its registers (TPM2_Quote).
type Quote struct {
	Statement []byte    // TPMS_ATTEST
	Signature []byte    // TPMT_SIGNATURE of the attestation key
	Registers Registers // what it is said to be about
}

// Quoted is what a quote shows beside the registers.
type Quoted struct {
	Resets uint32 // how often the machine was switched on
}

// Verify says whether a quote is one of the attestation key's TPM, made for this nonce,
// and its registers those quoted. What they should be is Expected's to say.
func (q Quote) Verify(ak crypto.PublicKey, nonce []byte) (Quoted, error) {
	if len(nonce) == 0 {
		return Quoted{}, fmt.Errorf("%w: there was no nonce", ErrNonce)
	}
	if err := q.Registers.Check(); err != nil {
		return Quoted{}, err
	}
	said, hash, err := statement(ak, tpm2.TPMSTAttestQuote, q.Statement, q.Signature)
	if err != nil {
		return Quoted{}, err
	}
	if subtle.ConstantTimeCompare(said.ExtraData.Buffer, nonce) != 1 {
		return Quoted{}, fmt.Errorf("%w: its nonce isn't the one given", ErrNonce)
	}
	info, err := said.Attested.Quote()
	if err != nil {
		return Quoted{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	selected, err := selection(info.PCRSelect)
	if err != nil {
		return Quoted{}, err
	}
	if !slices.Equal(selected, q.Registers.Indexes()) {
		return Quoted{}, fmt.Errorf("%w: quoted are %v, values come for %v", ErrRegister, selected, q.Registers.Indexes())
	}
	var all []byte
	for _, i := range selected {
		all = append(all, q.Registers[i]...)
	}
	if !bytes.Equal(sum(hash, all), info.PCRDigest.Buffer) {
		return Quoted{}, fmt.Errorf("%w: the values aren't those quoted", ErrRegister)
	}
	return Quoted{said.ClockInfo.ResetCount}, nil
}

// selection reads which registers were quoted, all in the SHA-256 bank.
func selection(list tpm2.TPMLPCRSelection) ([]int, error) {
	var out []int
	for _, s := range list.PCRSelections {
		for i := range 8 * len(s.PCRSelect) {
			if s.PCRSelect[i/8]>>(i%8)&1 == 0 {
				continue
			}
			if s.Hash != tpm2.TPMAlgSHA256 || i >= registers || slices.Contains(out, i) {
				return nil, fmt.Errorf("%w: quoted outside of the SHA-256 bank, or twice", ErrRegister)
			}
			out = append(out, i)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: none is quoted", ErrRegister)
	}
	return slices.Sorted(slices.Values(out)), nil
}

// MaxLog bounds an event log: a PC's has some hundred entries of up to a few KiB.
const MaxLog = 1 << 20

// replay says whether an event log (TCG PC Client Platform Firmware Profile §10) tells
// how the registers came to their values, and returns their events. An event that nobody
// recorded, or that was recorded otherwise, is ErrLog.
func replay(log []byte, r Registers) ([]attest.Event, error) {
	if len(log) > MaxLog {
		return nil, fmt.Errorf("%w: an event log of %d bytes", ErrMalformed, len(log))
	}
	if err := r.Check(); err != nil {
		return nil, err
	}
	parsed, err := attest.ParseEventLog(log)
	if err != nil {
		return nil, fmt.Errorf("%w: the event log can't be read: %w", ErrMalformed, err)
	}
	var pcrs []attest.PCR
	for _, i := range r.Indexes() {
		pcrs = append(pcrs, attest.PCR{Index: i, Digest: r[i], DigestAlg: crypto.SHA256})
	}
	events, err := parsed.Verify(pcrs)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLog, err)
	}
	told := map[int]bool{}
	for _, e := range events {
		told[e.Index] = true
	}
	for _, i := range r.Indexes() {
		// Verify takes any value of a register that no event tells of.
		if !told[i] && !untouched(r[i]) {
			return nil, fmt.Errorf("%w: it says nothing of register %d, which isn't as it was reset", ErrLog, i)
		}
	}
	return events, nil
}

// untouched: a reset leaves zeros, or ones in the registers of a dynamic launch.
func untouched(v []byte) bool {
	return len(bytes.Trim(v, "\x00")) == 0 || len(bytes.Trim(v, "\xff")) == 0
}
