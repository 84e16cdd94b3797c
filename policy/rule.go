package policy

import (
	"slices"

	"cel.dev/cel-go/cel"

	"bollard/ocpp"
)

// rule is a checked rule.
type rule struct {
	name, file string
	line       int
	reason     string
	promise    int
	builtIn    bool
	enforce    bool
	direction  ocpp.Direction
	actions    []string // ["*"]: all
	versions   []ocpp.Version
	count      *fileCount // nil: counts nothing
	when       string
	program    cel.Program     // nil: always true
	reads      map[string]bool // variables of the condition
	fields     []string        // names of payload fields the condition looks at
	paths      [][]string      // of payload, as far as the condition spells them out
	dormant    bool            // the condition is false whatever the message
	then       string
	code       ocpp.ErrorCode // of the CALLERROR, instead of the answer's status
	rewrite    rewrite
}

func (r *rule) mode() string {
	if r.enforce {
		return "enforce"
	}
	return "shadow"
}

func (r *rule) all() bool { return r.actions[0] == "*" }

// covers says whether r judges every message that other judges.
func (r *rule) covers(other *rule) bool {
	return r.direction == other.direction &&
		!slices.ContainsFunc(other.versions, func(v ocpp.Version) bool { return !slices.Contains(r.versions, v) }) &&
		(r.all() || !slices.ContainsFunc(other.actions, func(a string) bool { return !slices.Contains(r.actions, a) }))
}

// meets says whether some message is judged by both.
func (r *rule) meets(other *rule) bool {
	return r.direction == other.direction &&
		slices.ContainsFunc(other.versions, func(v ocpp.Version) bool { return slices.Contains(r.versions, v) }) &&
		(r.all() || other.all() || slices.ContainsFunc(other.actions, func(a string) bool { return slices.Contains(r.actions, a) }))
}

// exists says whether a version of the rule has the action.
func (r *rule) exists(action string) bool {
	a, ok := ocpp.FindAction(action)
	return ok && slices.ContainsFunc(r.versions, func(v ocpp.Version) bool { return slices.Contains(a.Versions, v) })
}
