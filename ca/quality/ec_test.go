package quality_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"

	"bollard/ca/quality"
)

// A00.FR.503: the NIST curves, points that are on them.
func TestEC(t *testing.T) {
	t.Parallel()
	good := ecKey(t, elliptic.P256())
	base := elliptic.P384().Params()
	x, y := coordinates(t, good)
	point := func(x, y *big.Int) *ecdsa.PublicKey { return ecPoint(elliptic.P256(), x, y) }
	for _, tt := range []struct {
		name   string
		key    *ecdsa.PublicKey
		policy quality.Policy
		want   quality.Reason
	}{
		{"P-256", good, quality.Policy{}, ""},
		{"P-384", ecKey(t, elliptic.P384()), quality.Policy{}, ""},
		{"P-521", ecKey(t, elliptic.P521()), quality.Policy{}, ""},
		{"P-224", ecKey(t, elliptic.P224()), quality.Policy{}, quality.Curve},
		{"P-224 where a model needs it", ecKey(t, elliptic.P224()), quality.Policy{P224: true}, ""},
		{"another curve", ecPoint(&elliptic.CurveParams{Name: "mine"}, x, y), quality.Policy{P224: true}, quality.Curve},
		{"no curve", ecPoint(nil, x, y), quality.Policy{}, quality.Malformed},
		{"no point", point(nil, nil), quality.Policy{}, quality.Malformed},
		{"infinity", point(new(big.Int), new(big.Int)), quality.Policy{}, quality.Point},
		{"off the curve", point(x, new(big.Int).Add(y, big.NewInt(1))), quality.Policy{}, quality.Point},
		{"coordinate not reduced", point(new(big.Int).Add(x, elliptic.P256().Params().P), y), quality.Policy{}, quality.Point},
		{"negative coordinate", point(new(big.Int).Neg(x), y), quality.Policy{}, quality.Point},
		{"private key 1", ecPoint(elliptic.P384(), base.Gx, base.Gy), quality.Policy{}, quality.Point},
		{"private key -1", ecPoint(elliptic.P384(), base.Gx, new(big.Int).Sub(base.P, base.Gy)), quality.Policy{}, quality.Point},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := quality.Check(tt.key, tt.policy)
			if got := reason(t, err); got != tt.want {
				t.Errorf("got %q (%v), want %q", got, err, tt.want)
			}
		})
	}
}

func TestOtherKinds(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]any{"Ed25519": make(ed25519.PublicKey, 32), "nothing": nil, "a string": "key"} {
		if got := reason(t, quality.Check(key, quality.Policy{P224: true})); got != quality.Kind {
			t.Errorf("%s: %q, want %q", name, got, quality.Kind)
		}
	}
}

// rawSPKI builds what crypto/x509 wouldn't.
func rawSPKI(t testing.TB, algorithm, parameters string, rawParameters, bits []byte) []byte {
	t.Helper()
	oid := func(dotted string) asn1.ObjectIdentifier {
		var id asn1.ObjectIdentifier
		for part := range strings.SplitSeq(dotted, ".") {
			n, _ := new(big.Int).SetString(part, 10)
			id = append(id, int(n.Int64()))
		}
		return id
	}
	if parameters != "" {
		raw, err := asn1.Marshal(oid(parameters))
		if err != nil {
			t.Fatal(err)
		}
		rawParameters = raw
	}
	der, err := asn1.Marshal(struct {
		Algorithm struct {
			ID         asn1.ObjectIdentifier
			Parameters asn1.RawValue `asn1:"optional"`
		}
		Key asn1.BitString
	}{
		struct {
			ID         asn1.ObjectIdentifier
			Parameters asn1.RawValue `asn1:"optional"`
		}{oid(algorithm), asn1.RawValue{FullBytes: rawParameters}},
		asn1.BitString{Bytes: bits, BitLength: 8 * len(bits)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

const (
	rsaID = "1.2.840.113549.1.1.1"
	ecID  = "1.2.840.10045.2.1"
	p256  = "1.2.840.10045.3.1.7"
)

func TestSPKI(t *testing.T) {
	t.Parallel()
	null := []byte{5, 0}
	rsaBits := func(n, e *big.Int) []byte {
		der, err := asn1.Marshal(struct{ N, E *big.Int }{n, e})
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	n := goodRSA().N
	power := func(bit uint) *big.Int { return new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), bit), big.NewInt(1)) }
	good, err := ecKey(t, elliptic.P256()).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	off := append([]byte(nil), good...)
	off[len(off)-1] ^= 1
	// secp256k1's base point (SEC 2 §2.4.1).
	k1x, _ := new(big.Int).SetString("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798", 16)
	k1y, _ := new(big.Int).SetString("483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8", 16)
	k1 := append(append([]byte{4}, k1x.Bytes()...), k1y.Bytes()...)
	for _, tt := range []struct {
		name string
		der  []byte
		want quality.Reason
		text string
	}{
		{"RSA", spki(t, goodRSA()), "", ""},
		{"P-256", spki(t, ecKey(t, elliptic.P256())), "", ""},
		{"P-224", spki(t, ecKey(t, elliptic.P224())), quality.Curve, "P-224"},
		{"nothing", nil, quality.Malformed, ""},
		{"trailing byte", append(spki(t, goodRSA()), 0), quality.Malformed, ""},
		{"e=65537, raw", rawSPKI(t, rsaID, "", null, rsaBits(n, power(16))), "", ""},
		{"e=3", rawSPKI(t, rsaID, "", null, rsaBits(n, big.NewInt(3))), quality.Exponent, "exponent 3 "},
		{"e=-65537", rawSPKI(t, rsaID, "", null, rsaBits(n, big.NewInt(-65537))), quality.Exponent, ""},
		{"e=2^32+1", rawSPKI(t, rsaID, "", null, rsaBits(n, power(32))), quality.Exponent, "33 bits"},
		{"e=2^32+65537", rawSPKI(t, rsaID, "", null, rsaBits(n, new(big.Int).Add(power(32), power(16)))), quality.Exponent, ""},
		{"e=2^64+65537", rawSPKI(t, rsaID, "", null, rsaBits(n, new(big.Int).Add(power(64), power(16)))), quality.Exponent, ""},
		{"e of 2000 bits", rawSPKI(t, rsaID, "", null, rsaBits(n, power(1999))), quality.Exponent, "2000 bits"},
		{"negative modulus", rawSPKI(t, rsaID, "", null, rsaBits(new(big.Int).Neg(n), power(16))), quality.Malformed, ""},
		{"RSA without numbers", rawSPKI(t, rsaID, "", null, []byte{1, 2, 3}), quality.Malformed, ""},
		{"secp256k1", rawSPKI(t, ecID, "1.3.132.0.10", nil, k1), quality.Curve, "secp256k1"},
		{"secp256k1's point as P-256", rawSPKI(t, ecID, p256, nil, k1), quality.Point, ""},
		{"brainpool", rawSPKI(t, ecID, "1.3.36.3.3.2.8.1.1.7", nil, good), quality.Curve, "brainpoolP256r1"},
		{"a curve nobody knows", rawSPKI(t, ecID, "1.2.3.4", nil, good), quality.Curve, "1.2.3.4"},
		{"explicit curve", rawSPKI(t, ecID, "", []byte{0x30, 3, 2, 1, 1}, good), quality.Curve, "named"},
		{"no curve", rawSPKI(t, ecID, "", nil, good), quality.Curve, "named"},
		{"off the curve", rawSPKI(t, ecID, p256, nil, off), quality.Point, "isn't on"},
		{"infinity", rawSPKI(t, ecID, p256, nil, []byte{0}), quality.Point, "infinity"},
		{"no point", rawSPKI(t, ecID, p256, nil, nil), quality.Malformed, ""},
		{"compressed", rawSPKI(t, ecID, p256, nil, append([]byte{2 + good[64]&1}, good[1:33]...)), quality.Point, "uncompressed"},
		{"point too long", rawSPKI(t, ecID, p256, nil, append(good[:65:65], 0)), quality.Point, ""},
		{"Ed25519", spki(t, make(ed25519.PublicKey, 32)), quality.Kind, "Ed25519"},
		{"RSASSA-PSS only", rawSPKI(t, "1.2.840.113549.1.1.10", "", null, rsaBits(n, power(16))), quality.Kind, ""},
		{"DSA", rawSPKI(t, "1.2.840.10040.4.1", "", null, []byte{2, 1, 1}), quality.Kind, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := quality.CheckSPKI(tt.der, quality.Policy{})
			if got := reason(t, err); got != tt.want || err != nil && !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %q (%v), want %q with %q", got, err, tt.want, tt.text)
			}
		})
	}
}

// No input panics, and what CheckSPKI lets pass crypto/x509 reads as an allowed key.
func FuzzSPKI(f *testing.F) {
	f.Add(spki(f, goodRSA()))
	f.Add(spki(f, ecKey(f, elliptic.P256())))
	f.Add(spki(f, ecKey(f, elliptic.P224())))
	f.Add(spki(f, make(ed25519.PublicKey, 32)))
	f.Add(rawSPKI(f, ecID, p256, nil, []byte{0}))
	f.Add(rawSPKI(f, rsaID, "", []byte{5, 0}, []byte{0x30, 0}))
	f.Fuzz(func(t *testing.T, der []byte) {
		if len(der) > 8<<10 {
			return
		}
		if quality.CheckSPKI(der, quality.Policy{}) == nil {
			allowed(t, der)
		}
	})
}
