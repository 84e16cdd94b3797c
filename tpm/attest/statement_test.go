package attest_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"bollard/tpm/attest"
	"bollard/tpm/device"
)

// A credential opens in the TPM it was made for, for the attestation key it was made
// for, and nowhere else.
func TestChallenge(t *testing.T) {
	t.Parallel()
	mine, other := newMachine(t), newMachine(t)
	for name, tt := range map[string]struct {
		ek    attest.EK
		ak    *attest.AK
		opens bool
	}{
		"own":                            {mine.ek, mine.ak, true},
		"attestation key of another TPM": {mine.ek, other.ak, false},
		"endorsement key of another TPM": {other.ek, mine.ak, false},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := attest.NewChallenge(rand.Reader, tt.ek, tt.ak)
			if err != nil {
				t.Fatal(err)
			}
			secret, err := mine.Activate(c.Credential, c.Encrypted)
			if opened := err == nil && bytes.Equal(secret, c.Secret); opened != tt.opens {
				t.Errorf("opened: %t (%v), want %t", opened, err, tt.opens)
			}
		})
	}
}

// The keys of the high range have a name and a cipher of their own.
func TestChallengeP384(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	template := tpm2.ECCEKTemplate
	template.NameAlg, template.AuthPolicy = tpm2.TPMAlgSHA384, tpm2.TPM2BDigest{}
	template.ObjectAttributes.AdminWithPolicy, template.ObjectAttributes.UserWithAuth = false, true
	template.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
		Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgAES, KeyBits: tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(256)), Mode: tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB)},
		CurveID:   tpm2.TPMECCNistP384,
	})
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
	made, public := primary(t, m, tpm2.TPMRHEndorsement, template)
	ek, err := attest.NewEK(public)
	if err != nil {
		t.Fatal(err)
	}
	ak, _ := primary(t, m, tpm2.TPMRHOwner, attestation())
	parsed, err := attest.ParseAK(ak.OutPublic.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	c, err := attest.NewChallenge(rand.Reader, ek, parsed)
	if err != nil {
		t.Fatal(err)
	}
	id, err := tpm2.Unmarshal[tpm2.TPM2BIDObject](c.Credential)
	if err != nil {
		t.Fatal(err)
	}
	seed, err := tpm2.Unmarshal[tpm2.TPM2BEncryptedSecret](c.Encrypted)
	if err != nil {
		t.Fatal(err)
	}
	told, err := tpm2.ActivateCredential{
		ActivateHandle: tpm2.NamedHandle{Handle: ak.ObjectHandle, Name: ak.Name}, KeyHandle: tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name},
		CredentialBlob: *id, Secret: *seed,
	}.Execute(m.raw)
	if err != nil || !bytes.Equal(told.CertInfo.Buffer, c.Secret) {
		t.Errorf("the TPM didn't open it: %v", err)
	}
}

func primary(t *testing.T, m *machine, of tpm2.TPMHandle, template tpm2.TPMTPublic) (*tpm2.CreatePrimaryResponse, crypto.PublicKey) {
	t.Helper()
	made, err := tpm2.CreatePrimary{PrimaryHandle: of, InPublic: tpm2.New2B(template)}.Execute(m.raw)
	if err != nil {
		t.Fatal(err)
	}
	contents, err := made.OutPublic.Contents()
	if err != nil {
		t.Fatal(err)
	}
	public, err := tpm2.Pub(*contents)
	if err != nil {
		t.Fatal(err)
	}
	return made, public
}

// attestation is the template of an attestation key.
func attestation() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, SignEncrypt: true, Restricted: true,
		},
		Parameters: scheme(tpm2.TPMAlgSHA256),
		Unique:     tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{}),
	}
}

func scheme(hash tpm2.TPMIAlgHash) tpm2.TPMUPublicParms {
	return tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
		Scheme:  tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: hash})},
		CurveID: tpm2.TPMECCNistP256,
	})
}

// The attributes of an attestation key are what its statements are worth.
func TestAttestationKeyAttributes(t *testing.T) {
	t.Parallel()
	raw, err := newKey(t).PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(*tpm2.TPMTPublic)
		kind   error
	}{
		"good":               {func(*tpm2.TPMTPublic) {}, nil},
		"signs anything":     {func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = false }, attest.ErrKey},
		"doesn't sign":       {func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SignEncrypt = false }, attest.ErrKey},
		"decrypts":           {func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Decrypt = true }, attest.ErrKey},
		"leaves its TPM":     {func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedTPM = false }, attest.ErrKey},
		"leaves its parent":  {func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedParent = false }, attest.ErrKey},
		"was brought":        {func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SensitiveDataOrigin = false }, attest.ErrKey},
		"signs over SHA-1":   {func(p *tpm2.TPMTPublic) { p.Parameters = scheme(tpm2.TPMAlgSHA1) }, attest.ErrKey},
		"is named by SHA-1":  {func(p *tpm2.TPMTPublic) { p.NameAlg = tpm2.TPMAlgSHA1 }, attest.ErrKey},
		"isn't on its curve": {func(p *tpm2.TPMTPublic) { p.Unique = unique(raw[2:33], raw[33:]) }, attest.ErrKey},
		"has no way to sign": {func(p *tpm2.TPMTPublic) {
			p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256})
		}, attest.ErrKey},
		"is on a smaller curve": {func(p *tpm2.TPMTPublic) {
			p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP224})
		}, attest.ErrKey},
		"is short RSA": {func(p *tpm2.TPMTPublic) {
			p.Type = tpm2.TPMAlgRSA
			p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 1024})
			p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: bytes.Repeat([]byte{0x81}, 128)})
		}, attest.ErrKey},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := attestation()
			p.Unique = unique(raw[1:33], raw[33:])
			tt.change(&p)
			_, err := attest.ParseAK(tpm2.Marshal(p))
			wants(t, err, tt.kind)
		})
	}
	p := attestation()
	p.Unique = unique(raw[1:33], raw[33:])
	_, err = attest.ParseAK(append(tpm2.Marshal(p), 0))
	wants(t, err, attest.ErrMalformed)
	_, err = attest.ParseAK(nil)
	wants(t, err, attest.ErrMalformed)
}

func unique(x, y []byte) tpm2.TPMUPublicID {
	return tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: x}, Y: tpm2.TPM2BECCParameter{Buffer: y}})
}

// A station's key is believed to be in its TPM by the TPM's own word about this key.
func TestCertified(t *testing.T) {
	t.Parallel()
	mine, other := newMachine(t), newMachine(t)
	key, err := mine.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	good, err := key.Certify(asked)
	if err != nil {
		t.Fatal(err)
	}
	second, err := mine.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	loose := attestation() // of a key that may be duplicated
	loose.ObjectAttributes.Restricted, loose.ObjectAttributes.FixedTPM, loose.ObjectAttributes.FixedParent = false, false, false
	duplicable, loosePublic := certified(t, mine, loose)
	quote, err := mine.Quote([]byte("nonce"), 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(*attest.Certified)
		by     crypto.PublicKey
		key    crypto.PublicKey
		kind   error
	}{
		"good":                   {func(*attest.Certified) {}, mine.ak.Public(), key.Public(), nil},
		"of another TPM":         {func(*attest.Certified) {}, other.ak.Public(), key.Public(), attest.ErrSignature},
		"for another key":        {func(*attest.Certified) {}, mine.ak.Public(), second.Public(), attest.ErrOtherKey},
		"for a key outside":      {func(*attest.Certified) {}, mine.ak.Public(), newKey(t).Public(), attest.ErrOtherKey},
		"of a duplicable key":    {func(c *attest.Certified) { *c = duplicable }, mine.ak.Public(), loosePublic, attest.ErrKey},
		"with another area":      {func(c *attest.Certified) { c.Public[7] ^= 0x10 }, mine.ak.Public(), key.Public(), attest.ErrOtherKey},
		"a quote instead":        {func(c *attest.Certified) { c.Statement, c.Signature = quote.Statement, quote.Signature }, mine.ak.Public(), key.Public(), attest.ErrNotFromTPM},
		"not of a TPM":           {func(c *attest.Certified) { c.Statement[0] = 0 }, mine.ak.Public(), key.Public(), attest.ErrNotFromTPM},
		"changed":                {func(c *attest.Certified) { c.Statement[len(c.Statement)-40] ^= 1 }, mine.ak.Public(), key.Public(), attest.ErrSignature},
		"with another signature": {func(c *attest.Certified) { c.Signature[len(c.Signature)-1] ^= 1 }, mine.ak.Public(), key.Public(), attest.ErrSignature},
		"longer":                 {func(c *attest.Certified) { c.Statement = append(c.Statement, 0) }, mine.ak.Public(), key.Public(), attest.ErrMalformed},
		"without a signature":    {func(c *attest.Certified) { c.Signature = nil }, mine.ak.Public(), key.Public(), attest.ErrMalformed},
		"without a statement":    {func(c *attest.Certified) { c.Statement = nil }, mine.ak.Public(), key.Public(), attest.ErrNotFromTPM},
		"without an area":        {func(c *attest.Certified) { c.Public = nil }, mine.ak.Public(), key.Public(), attest.ErrMalformed},
		"by no key":              {func(*attest.Certified) {}, nil, key.Public(), attest.ErrSignature},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := attest.Certified{Public: slices.Clone(good.Public), Statement: slices.Clone(good.Statement), Signature: slices.Clone(good.Signature)}
			tt.change(&c)
			wants(t, c.Verify(tt.by, tt.key, asked), tt.kind)
		})
	}
	wants(t, good.Verify(mine.ak.Public(), key.Public(), []byte("another question")), attest.ErrNonce)
	silent, err := key.Certify(nil)
	if err != nil {
		t.Fatal(err)
	}
	wants(t, silent.Verify(mine.ak.Public(), key.Public(), nil), attest.ErrNonce)
}

// asked is what statements about keys answer.
var asked = []byte("a question of ours")

// certified makes a key in a TPM and has the attestation key certify it.
func certified(t *testing.T, m *machine, template tpm2.TPMTPublic) (attest.Certified, crypto.PublicKey) {
	t.Helper()
	parent, _ := primary(t, m, tpm2.TPMRHOwner, tpm2.ECCSRKTemplate)
	made, err := tpm2.Create{ParentHandle: tpm2.NamedHandle{Handle: parent.ObjectHandle, Name: parent.Name}, InPublic: tpm2.New2B(template)}.Execute(m.raw)
	if err != nil {
		t.Fatal(err)
	}
	key, err := m.Key(append(tpm2.Marshal(made.OutPublic), tpm2.Marshal(made.OutPrivate)...))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.FlushContext{FlushHandle: parent.ObjectHandle}).Execute(m.raw); err != nil {
		t.Fatal(err)
	}
	c, err := key.Certify(asked)
	if err != nil {
		t.Fatal(err)
	}
	return c, key.Public()
}

// A quote counts for one nonce, of one TPM, for the registers that came with it.
func TestQuote(t *testing.T) {
	t.Parallel()
	mine, other := newMachine(t), newMachine(t)
	nonce := []byte("a nonce of ours, used once")
	good, err := mine.Quote(nonce, 0, 7, 4)
	if err != nil {
		t.Fatal(err)
	}
	key, err := mine.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	c, err := key.Certify(asked)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(*attest.Quote)
		nonce  []byte
		by     crypto.PublicKey
		kind   error
	}{
		"good":                        {func(*attest.Quote) {}, nonce, mine.ak.Public(), nil},
		"of another machine":          {func(*attest.Quote) {}, nonce, other.ak.Public(), attest.ErrSignature},
		"for another nonce":           {func(*attest.Quote) {}, []byte("the next nonce"), mine.ak.Public(), attest.ErrNonce},
		"for none":                    {func(*attest.Quote) {}, nil, mine.ak.Public(), attest.ErrNonce},
		"with another value":          {func(q *attest.Quote) { q.Registers[4] = make([]byte, 32); q.Registers[4][0] = 1 }, nonce, mine.ak.Public(), attest.ErrRegister},
		"with one value less":         {func(q *attest.Quote) { delete(q.Registers, 4) }, nonce, mine.ak.Public(), attest.ErrRegister},
		"with one more":               {func(q *attest.Quote) { q.Registers[8] = make([]byte, 32) }, nonce, mine.ak.Public(), attest.ErrRegister},
		"with a register there isn't": {func(q *attest.Quote) { q.Registers[24] = make([]byte, 32) }, nonce, mine.ak.Public(), attest.ErrMalformed},
		"with half a value":           {func(q *attest.Quote) { q.Registers[4] = make([]byte, 16) }, nonce, mine.ak.Public(), attest.ErrMalformed},
		"that is about a key":         {func(q *attest.Quote) { q.Statement, q.Signature = c.Statement, c.Signature }, nonce, mine.ak.Public(), attest.ErrNotFromTPM},
	} {
		t.Run(name, func(t *testing.T) {
			q := attest.Quote{Statement: slices.Clone(good.Statement), Signature: slices.Clone(good.Signature), Registers: attest.Registers{}}
			for i, v := range good.Registers {
				q.Registers[i] = slices.Clone(v)
			}
			tt.change(&q)
			_, err := q.Verify(tt.by, tt.nonce)
			wants(t, err, tt.kind)
		})
	}
	if _, err := sha384(t, mine, nonce).Verify(mine.ak.Public(), nonce); err == nil || !strings.Contains(err.Error(), "SHA-256 bank") {
		t.Errorf("a quote of another bank: %v", err)
	}
}

// sha384 is a quote whose selection is outside of the bank that values come from.
func sha384(t *testing.T, m *machine, nonce []byte) attest.Quote {
	t.Helper()
	ak, _ := primary(t, m, tpm2.TPMRHOwner, attestation())
	said, err := tpm2.Quote{
		SignHandle: tpm2.NamedHandle{Handle: ak.ObjectHandle, Name: ak.Name}, QualifyingData: tpm2.TPM2BData{Buffer: nonce}, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		PCRSelect: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA384, PCRSelect: []byte{1, 0, 0}}}},
	}.Execute(m.raw)
	if err != nil {
		t.Fatal(err)
	}
	return attest.Quote{Statement: said.Quoted.Bytes(), Signature: tpm2.Marshal(said.Signature), Registers: attest.Registers{0: make([]byte, 32)}}
}

// eventLog is a log of events, each a register and what was measured into it.
func eventLog(events ...[2]any) []byte {
	var list []device.Event
	for _, e := range events {
		data := []byte(e[1].(string))
		list = append(list, device.Event{Register: e[0].(int), Digest: sha256.Sum256(data), Data: data})
	}
	return device.EventLog(list...)
}

// The log has to tell of each register how it came to what was quoted.
func TestReplay(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	for _, what := range []string{"loader", "kernel"} {
		if err := m.Extend(4, []byte(what)); err != nil {
			t.Fatal(err)
		}
	}
	q, err := m.Quote([]byte("nonce"), 4, 8)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Verify(m.ak.Public(), []byte("nonce")); err != nil {
		t.Fatal(err)
	}
	loader, kernel, rootkit := [2]any{4, "loader"}, [2]any{4, "kernel"}, [2]any{4, "rootkit"}
	measured := func(what string) []byte { d := sha256.Sum256([]byte(what)); return d[:] }
	told := attest.Expected{Events: map[int][][]byte{4: {measured("loader"), measured("kernel")}, 8: {}}}
	for name, tt := range map[string]struct {
		log  []byte
		kind error
	}{
		"as it was":             {eventLog(loader, kernel), nil},
		"with an unknown event": {eventLog(loader, rootkit, kernel), attest.ErrLog},
		"without one":           {eventLog(loader), attest.ErrLog},
		"in another order":      {eventLog(kernel, loader), attest.ErrLog},
		"without any":           {eventLog(), attest.ErrLog},
		"of another register":   {eventLog(loader, kernel, [2]any{8, "more"}), attest.ErrLog},
		"cut":                   {eventLog(loader, kernel)[:100], attest.ErrMalformed},
		"none":                  {nil, attest.ErrMalformed},
		"endless":               {make([]byte, 1<<20+1), attest.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wants(t, told.Judge(q.Registers, tt.log), tt.kind)
		})
	}
}

// A question is answered once, in time, and there are never more than so many.
func TestPending(t *testing.T) {
	t.Parallel()
	p := attest.NewPending[string](2, time.Minute)
	wants(t, p.Put(now, "a", "1"), nil)
	wants(t, p.Put(now.Add(time.Second), "b", "2"), nil)
	wants(t, p.Put(now.Add(2*time.Second), "c", "3"), attest.ErrBusy)
	wants(t, p.Put(now.Add(2*time.Second), "b", "4"), nil) // its own again
	if v, ok := p.Take(now, "b"); !ok || v != "4" {
		t.Errorf("got %q, %t", v, ok)
	}
	if _, again := p.Take(now, "b"); again {
		t.Error("a question was answered twice")
	}
	if _, late := p.Take(now.Add(time.Minute), "a"); late {
		t.Error("a question was answered after its time")
	}
	wants(t, p.Put(now, "d", ""), nil)
	wants(t, p.Put(now, "e", ""), nil)
	wants(t, p.Put(now.Add(time.Minute), "f", ""), nil) // the others are over
}

// Nothing a station sends makes the verifiers panic, and nothing that a TPM didn't
// sign is believed.
func FuzzStatements(f *testing.F) {
	p := attestation()
	f.Add(tpm2.Marshal(p), []byte{0xff, 'T', 'C', 'G', 0x80, 0x18, 0, 0}, []byte{0, 0x18, 0, 0x0b, 0, 1, 1, 0, 1, 1}, eventLog([2]any{0, "a"}))
	f.Add(tpm2.Marshal(p), []byte{0xff, 'T', 'C', 'G', 0x80, 0x17, 0, 0}, []byte{0, 0x14, 0, 0x0b, 0, 1, 1}, []byte{})
	bundle, err := attest.Evidence{Certified: attest.Certified{Public: tpm2.Marshal(p), Statement: []byte{0xff}, Signature: []byte{1}}}.Bundle()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{}, []byte{}, []byte{}, bundle)
	f.Fuzz(func(t *testing.T, area, statement, signature, log []byte) {
		outside := newKey(t).Public()
		if ak, err := attest.ParseAK(area); err == nil {
			outside = ak.Public()
		}
		if (attest.Certified{Public: area, Statement: statement, Signature: signature}).Verify(outside, outside, []byte{1}) == nil {
			t.Error("a statement was believed")
		}
		if _, err := (attest.Quote{Statement: statement, Signature: signature, Registers: attest.Registers{0: make([]byte, 32)}}).Verify(outside, []byte{1}); err == nil {
			t.Error("a quote was believed")
		}
		_ = attest.Expected{Events: map[int][][]byte{0: {}}}.Judge(attest.Registers{0: make([]byte, 32)}, log)
		_, _ = attest.ParseEKCertificate(area)
		if e, err := attest.ParseEvidence(log); err == nil { // what is read is written alike, but for hints and sizes
			bundle, err := e.Bundle()
			if err != nil {
				t.Fatal(err)
			}
			again, err := attest.ParseEvidence(bundle)
			if err != nil || !bytes.Equal(again.Statement, e.Statement) || !bytes.Equal(again.Public, e.Public) || len(again.Certificates) != len(e.Certificates) {
				t.Errorf("%v: read otherwise once it was written", err)
			}
		}
	})
}
