package policy

import (
	"encoding/json"
	"errors"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"bollard/ocpp"
)

// view is a message as rules see it: the one on the wire, or the one inside of a
// plug & charge DataTransfer.
type view struct {
	group   *group
	action  string
	shape   ocpp.Version // of its answer
	wrapped bool
	raw     []byte

	read bool // tree and err are set
	tree map[string]any
	err  error
}

func (v *view) decode() error {
	if !v.read {
		v.read = true
		v.tree, v.err = decode(v.raw, v.group.fields)
	}
	return v.err
}

// judgement is one message being judged.
type judgement struct {
	set   *Set
	in    *Input
	d     Decision
	trace func(r *rule, matched bool, err error) // nil: nobody looks
}

// Decide judges one message.
func (s *Set) Decide(in Input) Decision {
	j := judgement{set: s, in: &in}
	j.run()
	return j.d
}

func (j *judgement) run() {
	in := j.in
	g := j.set.at(in.Version, in.Direction, in.Action)
	if spelt := j.set.canonical(in.Action); spelt != in.Action {
		if near := j.set.at(in.Version, in.Direction, spelt); near != nil && near != g {
			j.misspelt(near, spelt)
		}
	}
	if j.d.Act == Pass && g != nil {
		j.judge(&view{group: g, action: in.Action, shape: in.Version, raw: in.Payload})
	}
	if j.d.Act == Pass && in.Version == ocpp.V16 && fold(in.Action) == fold(ocpp.ActionDataTransfer) {
		j.inside()
	}
	if j.d.Act != Pass {
		j.d.Rewritten, j.d.Rewrites = nil, nil
	}
}

// misspelt refuses an action that differs from one a rule in force names.
func (j *judgement) misspelt(near *group, spelt string) {
	for _, r := range append(append([]*rule{}, near.rewrites...), near.rules...) {
		if r.then == "pass" {
			continue
		}
		if r.enforce {
			j.d.Act, j.d.Rule, j.d.Code = Refuse, r.name, ocpp.NotImplemented
			j.d.Reason = "action differs from " + spelt + " only by case or white space"
			return
		}
		j.d.Shadow = append(j.d.Shadow, Hit{Rule: r.name, Then: "refuse"})
	}
}

// inside judges the message in a plug & charge DataTransfer.
func (j *judgement) inside() {
	action, inner, ok, err := unwrap(j.in.Payload)
	if !ok && err == nil {
		return
	}
	spelt := j.set.canonical(action)
	g := j.set.index[place{0, j.in.Direction, spelt}]
	if err != nil && action == "" {
		g = j.anyWrapped() // which message it is can't be told either
	}
	if g == nil {
		return
	}
	v := &view{group: g, action: spelt, shape: ocpp.V201, wrapped: true, raw: inner}
	if err != nil {
		v.read, v.err = true, err
	}
	j.judge(v)
}

func (j *judgement) anyWrapped() *group {
	all := &group{}
	seen := map[*rule]bool{}
	for _, r := range j.set.rules {
		for _, action := range r.actions {
			if g := j.set.index[place{0, j.in.Direction, action}]; g != nil && !seen[r] && !r.dormant && r.direction == j.in.Direction && r.reads["payload"] {
				seen[r] = true
				all.rules = append(all.rules, r)
			}
		}
	}
	if len(all.rules) == 0 {
		return nil
	}
	return all
}

// judge lets the rewrites act, then the other rules decide about what would be sent.
func (j *judgement) judge(v *view) {
	changed := false
	for _, r := range v.group.rewrites {
		if !j.matches(r, v) {
			continue
		}
		if v.decode() != nil || v.wrapped || j.in.Signed {
			if r.enforce {
				j.refuse(r, v, "can't be rewritten as it came")
				return
			}
			j.d.Shadow = append(j.d.Shadow, Hit{Rule: r.name, Then: r.then, Failed: true})
			continue
		}
		tree := v.tree
		if !r.enforce {
			tree = copyTree(tree)
		}
		did, fits := r.rewrite.apply(tree)
		switch {
		case !r.enforce && (did || !fits):
			j.d.Shadow = append(j.d.Shadow, Hit{Rule: r.name, Then: r.then, Failed: !fits})
		case r.enforce && !fits:
			j.refuse(r, v, "the field to rewrite isn't a number")
			return
		case r.enforce && did:
			changed = true
			j.d.Rewrites = append(j.d.Rewrites, r.name)
		}
	}
	for _, r := range v.group.rules {
		if j.matches(r, v) && j.act(r, v) {
			return
		}
	}
	if changed {
		raw, err := encode(v.tree)
		if err != nil {
			j.refuse(v.group.rewrites[0], v, "couldn't be encoded anew")
			return
		}
		j.d.Rewritten = raw
	}
}

// act carries out a rule that matched; true ends the judgement of this view.
func (j *judgement) act(r *rule, v *view) (decided bool) {
	if !r.enforce {
		j.d.Shadow = append(j.d.Shadow, Hit{Rule: r.name, Then: r.then})
		return false
	}
	switch r.then {
	case "pass":
		j.d.Rule, j.d.Reason = r.name, r.reason
	case "refuse":
		j.refuse(r, v, "")
	case "hold":
		message := j.canonicalMessage(v)
		if j.in.Released != nil && j.in.Released(r.name, message) {
			return false
		}
		j.refuse(r, v, "")
		j.d.Act, j.d.Held = Hold, message
	}
	return true
}

func (j *judgement) refuse(r *rule, v *view, why string) {
	j.d.Act, j.d.Rule, j.d.Reason = Refuse, r.name, r.reason
	if why != "" {
		j.d.Reason += " (" + why + ")"
	}
	var frame *ocpp.FrameError
	switch {
	case errors.As(v.err, &frame):
		j.d.Code = frame.Code
		return
	case r.code != "":
		j.d.Code = r.code
		return
	}
	if j.d.Answer = v.negative(); j.d.Answer == nil {
		j.d.Code = ocpp.SecurityError
	}
}

// matches evaluates a rule's condition. One that can't be evaluated matches,
// unless the rule lets pass; it is then dealt with as failed.
func (j *judgement) matches(r *rule, v *view) bool {
	f := facts{in: j.in, set: j.set, view: v}
	if r.count != nil {
		f.count = j.in.Counters.add(counted{r.name, r.count.Within, r.count.scope(j.in, v.action)}, j.in.Now)
	}
	if r.program == nil {
		j.traced(r, true, nil)
		return true
	}
	out, _, err := r.program.Eval(&f)
	if err == nil {
		matched := out == types.True
		j.traced(r, matched, nil)
		return matched
	}
	err = errors.New(cause(err, v.err))
	j.traced(r, r.then != "pass", err)
	switch {
	case r.then == "pass":
		return false
	case !r.enforce:
		j.d.Shadow = append(j.d.Shadow, Hit{Rule: r.name, Then: r.then, Failed: true})
		return false
	case r.then == "rewrite":
		j.refuse(r, v, err.Error())
		return true
	}
	return true
}

func (j *judgement) traced(r *rule, matched bool, err error) {
	if j.trace != nil {
		j.trace(r, matched, err)
	}
}

// cause tells why a condition can't be evaluated, without a word of the message.
func cause(err, payload error) string {
	text := err.Error()
	switch {
	case payload != nil:
		return payload.Error()
	case strings.Contains(text, "cost"):
		return "its condition costs too much with this message"
	case strings.Contains(text, "no such key"), strings.Contains(text, "no such attribute"), strings.Contains(text, "index out of bounds"):
		return "a field that its condition reads is missing"
	case strings.Contains(text, "no such overload"):
		return "a field that its condition reads is of another type"
	}
	return "its condition can't be evaluated with this message"
}

// canonicalMessage is one spelling for all that mean the same.
func (j *judgement) canonicalMessage(v *view) []byte {
	payload := json.RawMessage(v.raw)
	if v.decode() == nil {
		if raw, err := encode(v.tree); err == nil {
			payload = raw
		}
	}
	head := strings.Join([]string{fold(j.in.Station.Identity), j.in.Version.String(), j.in.Direction.String(), v.action}, "\x00")
	return append([]byte(head+"\x00"), payload...)
}

func copyTree(tree map[string]any) map[string]any {
	out := make(map[string]any, len(tree))
	for key, value := range tree {
		if inner, ok := value.(map[string]any); ok {
			value = copyTree(inner)
		}
		out[key] = value
	}
	return out
}

// facts answer what a condition asks, and nothing before it does.
type facts struct {
	in    *Input
	set   *Set
	view  *view
	count int64
}

var _ cel.Activation = (*facts)(nil)

// Parent is nobody.
func (f *facts) Parent() cel.Activation { return nil }

// ResolveName looks a variable up.
func (f *facts) ResolveName(name string) (any, bool) {
	in := f.in
	switch name {
	case "payload":
		if err := f.view.decode(); err != nil {
			return types.WrapErr(err), true
		}
		return types.NewStringInterfaceMap(types.DefaultTypeAdapter, f.view.tree), true
	case "count":
		return types.Int(f.count), true
	case "now":
		return types.Timestamp{Time: in.Now}, true
	case "local.hour":
		return types.Int(in.Now.Hour()), true
	case "local.minute":
		return types.Int(in.Now.Minute()), true
	case "local.weekday":
		return types.Int((int(in.Now.Weekday())+6)%7 + 1), true
	case "station.identity":
		return types.String(in.Station.Identity), true
	case "station.serial":
		return types.String(in.Station.Serial), true
	case "station.vendor":
		return types.String(in.Station.Vendor), true
	case "station.model":
		return types.String(in.Station.Model), true
	case "station.profile":
		return types.Int(in.Station.Profile), true
	case "station.group":
		if in.Group == nil {
			return types.String(""), true
		}
		return types.String(in.Group()), true
	case "backend.name":
		return types.String(in.Backend), true
	case "backend.security":
		return types.String(in.BackendSecurity), true
	case "session.version":
		return types.String(in.Version.String()), true
	case "session.boot":
		return types.String(in.Boot), true
	case "action":
		return types.String(f.view.action), true
	case "signed":
		return types.Bool(in.Signed), true
	case "wrapped":
		return types.Bool(f.view.wrapped), true
	case "anchors":
		return f.anchors(), true
	case "transaction.owner":
		return f.owner(), true
	}
	v, ok := f.set.values[name]
	return v, ok
}

func (f *facts) anchors() ref.Val {
	known := map[string][]string{}
	if f.in.Anchors != nil {
		known = f.in.Anchors()
	}
	return types.DefaultTypeAdapter.NativeToValue(known)
}

// owner says whose the transaction is that the payload names.
func (f *facts) owner() ref.Val {
	if err := f.view.decode(); err != nil {
		return types.WrapErr(err)
	}
	if f.in.Owner == nil {
		return types.String(OwnerUnknown)
	}
	id := transactionOf(f.view.tree, f.view.action, f.view.shape)
	if id == "" {
		return types.String(OwnerUnknown)
	}
	return types.String(f.in.Owner(id))
}
