package acme

import "bollard/internal/safehttp"

// ParseSigned reads a message.
func ParseSigned(data []byte) error {
	_, err := parseSigned(data)
	return err
}

// Settle makes an order's states follow from one another.
var Settle = (*Order).settle

// Bounds of what is asked.
var (
	PerSource   = perSource.Burst
	PerAccount  = perAccount.Burst
	PerStranger = perStranger.Burst
	PerFailure  = perFailure.Burst
)

// MaxNonces is how many nonces are out.
const MaxNonces = maxNonces

// Nonces gives and takes nonces.
func Nonces() (make func() string, take func(string) bool) {
	n := newNonces()
	return n.make, n.take
}

// Rooted looks names up as a Prober does.
func Rooted(r safehttp.Resolver) safehttp.Resolver { return rooted{r, lookupTimeout} }

// NewImpatient is NewProber of one that waits less for the resolver.
var NewImpatient = newProber
