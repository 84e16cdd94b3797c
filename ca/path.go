package ca

import "crypto/x509"

// Path is a way from the CA that issues a hierarchy's leaves up to one of its roots.
type Path struct {
	Root  *x509.Certificate
	Chain []*x509.Certificate // issuing CA first, without the root
}

// Paths returns the ways to a hierarchy's roots, the one that is served first; none
// without the hierarchy. A leaf is the same whichever of them it is given out with.
func (a *Authority) Paths(kind Kind) []Path { return a.hierarchy(kind).paths }
