package exi

import "fmt"

// SetNamed returns a set by the name its String method returns: iso15118-2,
// iso15118-20-common or xmldsig.
func SetNamed(name string) (*Set, error) {
	for _, s := range []*Set{ISO2(), ISO20Common(), Signature()} {
		if s.name == name {
			return s, nil
		}
	}
	return nil, fmt.Errorf("schema set %q is none of iso15118-2, iso15118-20-common, xmldsig", name)
}
