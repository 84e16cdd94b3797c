package ca

import (
	"crypto/x509"
	"slices"
	"time"
)

// Path is a way from the CA that issues a hierarchy's leaves up to one of its roots.
type Path struct {
	Root  *x509.Certificate
	Chain []*x509.Certificate // issuing CA first, without the root
	// outside are so many of Chain's last that others made; the root is theirs then.
	outside int
}

// Paths returns the ways to a hierarchy's roots, the one that is served first; none
// without the hierarchy. A leaf is the same whichever of them it is given out with.
func (a *Authority) Paths(kind Kind) []Path { return a.hierarchy(kind).paths }

// OutsideEnd is when the first of the certificates ends that others made; ok if they
// made any.
func (p Path) OutsideEnd() (end time.Time, ok bool) {
	if p.outside == 0 {
		return time.Time{}, false
	}
	end = p.Root.NotAfter
	for _, c := range p.Chain[len(p.Chain)-p.outside:] {
		if c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end, true
}

// over: it is one over others, which has ended.
func (p Path) over(now time.Time) bool {
	end, outside := p.OutsideEnd()
	return outside && now.After(end)
}

// inForce is what counts of a hierarchy now: no way that has ended, and of those to one
// root the first.
func (l *loadedHierarchy) inForce(now time.Time) *loadedHierarchy {
	return l.along(func(p Path) bool { return !p.over(now) })
}

// along is a hierarchy with such ways alone. What it gives out follows the first of
// them.
func (l *loadedHierarchy) along(keep func(Path) bool) *loadedHierarchy {
	if !slices.ContainsFunc(l.paths, func(p Path) bool { return p.outside > 0 }) {
		return l
	}
	var left []Path
	for _, p := range l.paths {
		if keep(p) && !slices.ContainsFunc(left, func(q Path) bool { return q.Root.Equal(p.Root) }) {
			left = append(left, p)
		}
	}
	out := *l
	out.paths = left
	if l.paths[0].outside > 0 && len(left) > 0 {
		by := *l.issuing
		by.chain = left[0].Chain
		out.issuing, out.old = &by, by.chain
	}
	return &out
}
