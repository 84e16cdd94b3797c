package quality_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"math/big"
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
