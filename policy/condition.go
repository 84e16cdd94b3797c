package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// Bounds of a condition, in CEL's units of cost (about a comparison each).
// Loading refuses a condition that could cost more than maxEstimate over payload
// lists of assumedSize; evaluating ends at maxCost whatever was assumed.
const (
	assumedSize = 1000
	maxEstimate = 1_000_000
	maxCost     = 20_000
)

// variables of a condition and their types, beside the file's own lists.NAME and
// numbers.NAME.
var variables = map[string]*cel.Type{
	"now":               cel.TimestampType,
	"local.hour":        cel.IntType, // 0 to 23
	"local.minute":      cel.IntType, // 0 to 59
	"local.weekday":     cel.IntType, // 1 Monday to 7 Sunday (ISO 8601)
	"station.identity":  cel.StringType,
	"station.serial":    cel.StringType,
	"station.vendor":    cel.StringType,
	"station.model":     cel.StringType,
	"station.profile":   cel.IntType,
	"station.group":     cel.StringType, // whose wants hold for it, "" without one
	"backend.name":      cel.StringType,
	"backend.security":  cel.StringType,
	"session.version":   cel.StringType,
	"session.boot":      cel.StringType,
	"action":            cel.StringType,
	"signed":            cel.BoolType,
	"wrapped":           cel.BoolType,
	"payload":           cel.MapType(cel.StringType, cel.DynType),
	"anchors":           cel.MapType(cel.StringType, cel.ListType(cel.StringType)),
	"transaction.owner": cel.StringType,
}

// compiler makes programs of conditions.
type compiler struct {
	lists     map[string][]string
	numbers   map[string]int
	plain     *cel.Env
	counting  *cel.Env // with count
	constants map[string]any
	unknown   []*cel.AttributePatternType
}

func newCompiler(lists map[string][]string, numbers map[string]int) (*compiler, error) {
	c := &compiler{lists: lists, numbers: numbers, constants: map[string]any{}}
	options := []cel.EnvOption{
		cel.OptionalTypes(), cel.CrossTypeNumericComparisons(true), cel.EagerlyValidateDeclarations(true),
		cel.ParserExpressionSizeLimit(maxWhen), cel.ParserRecursionLimit(50), cel.RegexProgramSizeLimit(200),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals()),
	}
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		options = append(options, cel.Variable(name, variables[name]))
		c.unknown = append(c.unknown, cel.AttributePattern(name))
	}
	for name, list := range lists {
		options = append(options, cel.Variable("lists."+name, cel.ListType(cel.StringType)))
		c.constants["lists."+name] = list
	}
	for name, n := range numbers {
		options = append(options, cel.Variable("numbers."+name, cel.IntType))
		c.constants["numbers."+name] = int64(n)
	}
	env, err := cel.NewEnv(append(options, functions()...)...)
	if err != nil {
		return nil, fmt.Errorf("couldn't set up the conditions of rules: %w", err)
	}
	c.plain = env
	c.counting, err = env.Extend(cel.Variable("count", cel.IntType))
	if err != nil {
		return nil, fmt.Errorf("couldn't set up the conditions of rules: %w", err)
	}
	c.unknown = append(c.unknown, cel.AttributePattern("count"))
	return c, nil
}

// compile turns a rule's condition into its program. Lines of faults count from
// the condition's first line.
func (c *compiler) compile(r *rule) (faults []Error) {
	env := c.plain
	if r.count != nil {
		env = c.counting
	}
	checked, issues := env.Compile(r.when)
	for _, e := range issues.Errors() {
		faults = append(faults, Error{Line: e.Location.Line(), Text: "when: " + clip(e.Message)})
	}
	if len(faults) > 0 {
		return faults
	}
	if !checked.OutputType().IsExactType(cel.BoolType) {
		return []Error{{Line: 1, Text: "when: the condition must be true or false, not " + checked.OutputType().String()}}
	}
	if fault := inspect(checked.NativeRep(), r); fault != "" {
		return []Error{{Line: 1, Text: "when: " + fault}}
	}
	estimate, err := env.EstimateCost(checked, costs{c})
	if err != nil {
		return []Error{{Line: 1, Text: "when: couldn't tell what the condition costs: " + clip(err.Error())}}
	}
	if estimate.Max > maxEstimate {
		return []Error{{Line: 1, Text: fmt.Sprintf("when: the condition could cost %d units, over %d: it walks lists inside of lists", estimate.Max, maxEstimate)}}
	}
	r.program, err = env.Program(checked, cel.CostTracking(costs{c}), cel.CostLimit(maxCost), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return []Error{{Line: 1, Text: "when: " + clip(err.Error())}}
	}
	r.dormant = c.never(env, checked)
	return nil
}

// never says whether a condition is false whatever the message, with the lists
// and numbers as they are.
func (c *compiler) never(env *cel.Env, checked *cel.Ast) bool {
	program, err := env.Program(checked, cel.EvalOptions(cel.OptPartialEval), cel.CostTracking(costs{c}), cel.CostLimit(maxCost))
	if err != nil {
		return false
	}
	vars, err := cel.PartialVars(c.constants, c.unknown...)
	if err != nil {
		return false
	}
	out, _, err := program.Eval(vars)
	return err == nil && out == types.False
}

// inspect notes what a condition reads and finds what must not be in one.
func inspect(tree *ast.AST, r *rule) (fault string) {
	r.reads = map[string]bool{}
	for _, reference := range tree.ReferenceMap() {
		if reference.Name != "" {
			r.reads[reference.Name] = true
		}
	}
	fields := map[string]bool{}
	ast.PreOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() {
		case ast.SelectKind:
			fields[e.AsSelect().FieldName()] = true
			if path := payloadPath(e); path != nil {
				r.paths = append(r.paths, path)
			}
		case ast.IdentKind:
			if e.AsIdent() == "payload" {
				r.paths = append(r.paths, []string{}) // all of it, if nothing selects from it
			}
		case ast.CallKind:
			call := e.AsCall()
			for _, arg := range call.Args() {
				if text, ok := literal(arg); ok && (call.FunctionName() == "_[_]" || call.FunctionName() == "_[?_]" || call.FunctionName() == "_?._") {
					fields[text] = true
				}
			}
			if call.FunctionName() == "@in" && len(call.Args()) == 2 {
				if text, ok := literal(call.Args()[0]); ok {
					fields[text] = true
				}
			}
			if call.FunctionName() == "matches" {
				if _, ok := literal(call.Args()[len(call.Args())-1]); !ok {
					fault = "the pattern of matches must be written out: one from a message could not be checked"
				}
			}
			if call.IsMemberFunction() && strings.HasPrefix(call.FunctionName(), "get") && len(call.Args()) > 0 {
				fault = "hours are told in the zone of policy.time_zone: use local.hour, local.minute, local.weekday"
			}
		}
	}))
	if r.reads["transaction.owner"] {
		for _, name := range transactionFields() {
			fields[name] = true
		}
	}
	r.fields = slices.Sorted(maps.Keys(fields))
	return fault
}

// payloadPath spells out payload.a.b; nil if it isn't one.
func payloadPath(e ast.Expr) []string {
	switch {
	case e.Kind() == ast.IdentKind && e.AsIdent() == "payload":
		return []string{}
	case e.Kind() != ast.SelectKind:
		return nil
	}
	parent := payloadPath(e.AsSelect().Operand())
	if parent == nil {
		return nil
	}
	return append(parent, e.AsSelect().FieldName())
}

func literal(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	text, ok := e.AsLiteral().(types.String)
	return string(text), ok
}

// costs tells CEL what it can't know: sizes of what comes in, and our functions.
type costs struct{ c *compiler }

// EstimateSize of a variable or a part of the payload.
func (k costs) EstimateSize(element cost.AstNode) *cost.SizeEstimate {
	path := element.Path()
	if len(path) == 0 {
		return nil
	}
	if name, ok := strings.CutPrefix(path[0], "lists."); ok && len(path) == 1 {
		size := cost.FixedSizeEstimate(uint64(len(k.c.lists[name])))
		return &size
	}
	size := cost.RangedSizeEstimate(0, assumedSize)
	return &size
}

// EstimateCallCost of our functions: they read their text once, or a list of names.
func (k costs) EstimateCallCost(function, _ string, _ *cost.AstNode, args []cost.AstNode) *cost.CallEstimate {
	list := assumedSize
	if len(args) == 2 {
		if e := args[1].Expr(); e.Kind() == ast.ListKind {
			list = e.AsList().Size()
		} else if size := k.EstimateSize(args[1]); size != nil {
			list = int(size.Max)
		}
	}
	units, ours := functionCost(function, assumedSize, list)
	if !ours {
		return nil
	}
	return &cost.CallEstimate{CostEstimate: cost.RangedCostEstimate(1, units)}
}

// CallCost is what a call did cost.
func (k costs) CallCost(function, _ string, args []ref.Val, _ ref.Val) *uint64 {
	text, list := 0, 0
	for _, arg := range args {
		switch v := arg.(type) {
		case types.String:
			text = max(text, len(v))
		default:
			if sized, ok := arg.(interface{ Size() ref.Val }); ok {
				if n, ok := sized.Size().(types.Int); ok {
					list = int(n)
				}
			}
		}
	}
	units, ours := functionCost(function, text, list)
	if !ours {
		return nil
	}
	return &units
}

func functionCost(function string, text, list int) (units uint64, ours bool) {
	switch function {
	case "same", "lower":
		return 1 + uint64(text)/10, true
	case "among":
		return 1 + uint64(list)*(1+uint64(text)/100), true
	case "url_allowed":
		return 20 + uint64(list)*2, true
	case "anchor":
		return 1000, true
	}
	return 0, false
}

// clip keeps a compiler's message to one readable line.
func clip(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > 300 {
		text = strings.ToValidUTF8(text[:300], "") + "…"
	}
	return text
}
