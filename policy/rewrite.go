package policy

import (
	"strings"
)

// rewrite is one of the changes that can't make a message dangerous: a number
// brought between two bounds, or a field left out.
type rewrite struct {
	path     []string // nil: none
	drop     bool
	min, max int64
}

// newRewrite reads a rewrite; ok is false unless it is exactly one.
func newRewrite(f *fileRewrite) (r rewrite, ok bool) {
	field := f.Clamp.Field
	if f.Drop != "" {
		if f.Clamp != (fileClamp{}) {
			return rewrite{}, false
		}
		field = f.Drop
	}
	path := strings.Split(field, ".")
	for _, name := range path {
		if name == "" {
			return rewrite{}, false
		}
	}
	if f.Drop == "" && f.Clamp.Min > f.Clamp.Max {
		return rewrite{}, false
	}
	return rewrite{path: path, drop: f.Drop != "", min: int64(f.Clamp.Min), max: int64(f.Clamp.Max)}, true
}

// apply changes a payload and says whether it did; fits is false where the
// field is something that can't be brought between bounds.
func (r *rewrite) apply(tree map[string]any) (changed, fits bool) {
	last := len(r.path) - 1
	for _, name := range r.path[:last] {
		inner, ok := tree[name].(map[string]any)
		if !ok {
			return false, tree[name] == nil
		}
		tree = inner
	}
	value, there := tree[r.path[last]]
	switch v := value.(type) {
	case nil:
		if r.drop && there {
			delete(tree, r.path[last])
			return true, true
		}
		return false, true
	case int64:
		if !r.drop {
			tree[r.path[last]] = min(max(v, r.min), r.max)
			return tree[r.path[last]] != value, true
		}
	case float64:
		if !r.drop {
			if v >= float64(r.min) && v <= float64(r.max) {
				return false, true
			}
			tree[r.path[last]] = r.min
			if v > float64(r.max) {
				tree[r.path[last]] = r.max
			}
			return true, true
		}
	}
	if !r.drop {
		return false, false
	}
	delete(tree, r.path[last])
	return true, true
}

// overlaps says whether one path is within the other.
func overlaps(a, b []string) bool {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// feeds says whether r changes what other's condition looks at.
func (r *rule) feeds(other *rule) bool {
	for _, path := range other.paths {
		if len(path) == 0 && !other.wholePayload() {
			continue
		}
		if overlaps(r.rewrite.path, path) {
			return true
		}
	}
	return false
}

// wholePayload says whether a condition looks at the payload without naming what.
func (r *rule) wholePayload() bool {
	for _, path := range r.paths {
		if len(path) > 0 {
			return false
		}
	}
	return true
}
