package exi

// AllRoots are the declared names in the order of their codes, carried or not.
func AllRoots(s *Set, g Grammar) []Name {
	var out []Name
	for _, r := range s.roots(g) {
		out = append(out, r.Name)
	}
	return out
}
