package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/policy"
	"bollard/warden"
)

func (c *cli) policyCommand() *cobra.Command {
	g := c.group("policy", "Rules about messages: check, try, explain and turn them on",
		c.policyList(), c.policyCheck(), c.policyTest(), c.policyReplay(), c.policyExplain(),
		c.policyReload(), c.policyPromote(), c.policyDemote(), c.policyHeld(), c.policyRelease())
	g.Long = `Rules about messages stand in DIR/policy/*.yaml; docs/policy.md tells how they
are written. Built-in ones come first: those that keep a promise are in force,
the others stand in shadow and only count, until they are promoted.`
	return g
}

func (c *cli) policyList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Show all rules in the order in which they judge",
		Args:  cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			out, err := call[admin.None, policyState](ctx, c, "policy.show", admin.None{})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { writeRules(w, out) })
		}),
	}
}

func writeRules(w io.Writer, out policyState) {
	t := newTable(w, "RULE", "MODE", "THEN", "PROMISE", "WHERE", "ABOUT")
	for _, r := range out.Rules {
		mode, promise := r.Mode, ""
		if r.Dormant {
			mode = "dormant"
		}
		if r.Promise > 0 {
			promise = fmt.Sprint(r.Promise)
		}
		t.row(r.Name, mode, r.Then, promise, fmt.Sprintf("%s:%d", r.File, r.Line), r.Reason)
	}
	t.flush()
	for _, f := range out.Findings {
		fmt.Fprintln(w, f)
	}
}

// checked is what `policy check` finds.
type checked struct {
	OK       bool            `json:"ok"`
	Rules    int             `json:"rules"`
	Faults   []*policy.Error `json:"faults"`   // the rules can't be used
	Findings []*policy.Error `json:"findings"` // they can, but not all does something
}

func (c *cli) policyCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Look for faults in DIR/policy: types, cost, conflicts, circles, rules that do nothing",
		Args:  cobra.NoArgs,
		RunE: c.do(func(context.Context, []string) error {
			files, err := policySources(c.data)
			if err != nil {
				return err
			}
			out := checked{Faults: []*policy.Error{}, Findings: []*policy.Error{}}
			set, err := policy.New(policy.Config{Files: files})
			if err != nil {
				out.Faults = policy.Faults(err)
			} else {
				out.Rules = len(set.Rules())
				out.Findings = append(out.Findings, set.Findings()...)
			}
			out.OK = len(out.Faults)+len(out.Findings) == 0
			err = c.print(out, func(w io.Writer) {
				for _, f := range append(out.Faults, out.Findings...) {
					fmt.Fprintln(w, f)
				}
				if out.OK {
					fmt.Fprintf(w, "%d rules, all good\n", out.Rules)
				}
			})
			if err == nil && !out.OK {
				err = admin.Refusedf("a server keeps the rules it has until these are mended", "%d faults in the rules", len(out.Faults)+len(out.Findings))
			}
			return err
		}),
	}
}

type tested struct {
	OK    bool            `json:"ok"`
	Tests []policy.Result `json:"tests"`
}

func (c *cli) policyTest() *cobra.Command {
	return &cobra.Command{
		Use:   "test FILE",
		Short: "Judge the messages of a table and compare with what it expects",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			set, err := loadPolicy(c.data)
			if err != nil {
				return err
			}
			if err := wantFile(args[0]); err != nil {
				return err
			}
			src, err := readSource(args[0])
			if err != nil {
				return admin.Usagef("", "%w", err)
			}
			results, err := set.Test(src, withAnchors(c.trustedKeys(ctx)))
			if err != nil {
				return admin.Usagef("docs/policy.md has an example", "%w", err)
			}
			if len(results) == 0 { // as good as a test that can't fail
				return admin.Usagef("docs/policy.md has an example", "%s has no tests", args[0])
			}
			out, wrong := tested{Tests: results}, 0
			for _, r := range results {
				if !r.OK {
					wrong++
				}
			}
			out.OK = wrong == 0
			err = c.print(out, func(w io.Writer) {
				for _, r := range results {
					if !r.OK {
						fmt.Fprintf(w, "%s:%d: %s: got %s, want %s\n", args[0], r.Line, r.Name, r.Got, r.Want)
					}
				}
				fmt.Fprintf(w, "%d of %d as expected\n", len(results)-wrong, len(results))
			})
			if err == nil && wrong > 0 {
				err = admin.Refusedf("`bollard policy explain --message -` tells which rules were asked", "%d of %d decisions are not as expected", wrong, len(results))
			}
			return err
		}),
	}
}

func (c *cli) policyReplay() *cobra.Command {
	rules := ""
	cmd := &cobra.Command{
		Use:   "replay [FILE...]",
		Short: "Count what each rule would have done to recorded traffic",
		Long: `Count what each rule would have done to recorded traffic: the files named, or
DIR/policy/recorded*.jsonl, which a server writes with policy.record_mb set.`,
		RunE: c.do(func(ctx context.Context, args []string) error {
			set, err := loadPolicy(c.data)
			if rules != "" {
				set, err = loadFolder(rules)
			}
			if err != nil {
				return err
			}
			if len(args) == 0 {
				for _, name := range recordedNames() {
					if path := filepath.Join(c.data, policyName, name); exists(path) {
						args = append(args, path)
					}
				}
			}
			if len(args) == 0 {
				return admin.Refusedf("set policy.record_mb in bollard.yaml and restart the server, or name a file", "no traffic was recorded")
			}
			r := policy.NewReplay(set, withAnchors(c.trustedKeys(ctx)))
			for _, path := range args {
				if err := wantFile(path); err != nil {
					return err
				}
				f, err := os.Open(path)
				if err != nil {
					return unreadable(path, err)
				}
				err = replayLines(r, path, f)
				f.Close()
				if err != nil {
					return err
				}
			}
			report := r.Report()
			return c.print(report, func(w io.Writer) { writeReport(w, report) })
		}),
	}
	cmd.Flags().StringVar(&rules, "rules", "", "folder with the rule files to try, instead of DIR/policy")
	return cmd
}

// trustedKeys are the roots that may be installed, none where there is no data
// directory to ask: rules can be tried anywhere.
func (c *cli) trustedKeys(ctx context.Context) map[string][]string {
	if !exists(filepath.Join(c.data, configName)) {
		return nil
	}
	out, err := call[admin.None, trustedKeys](ctx, c, "policy.anchors", admin.None{})
	if err != nil {
		fmt.Fprintf(c.stderr, "warning: couldn't read the trusted roots, so none is: %v\n", err)
	}
	return out.Anchors
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// loadFolder makes a set of the rule files of any folder.
func loadFolder(folder string) (*policy.Set, error) {
	paths, err := filepath.Glob(filepath.Join(globbed(folder), "*.yaml"))
	if err != nil {
		return nil, err
	}
	var files []policy.Source
	for _, path := range paths {
		src, err := readSource(path)
		if err != nil {
			return nil, err
		}
		files = append(files, src)
	}
	if len(files) == 0 {
		return nil, admin.Usagef("", "there are no *.yaml in %s", folder)
	}
	set, err := policy.New(policy.Config{Files: files})
	if err != nil {
		return nil, admin.Usagef("", "the policy rules can't be used:\n%w", err)
	}
	return set, nil
}

func writeReport(w io.Writer, report policy.Report) {
	fmt.Fprintf(w, "%d messages", report.Messages)
	if report.Messages > 0 {
		fmt.Fprintf(w, " from %s to %s", report.From, report.To)
	}
	fmt.Fprintf(w, ": %d passed, %d refused, %d held, %d rewritten\n", report.Decisions["pass"], report.Decisions["refuse"],
		report.Decisions["hold"], report.Decisions["rewrite"])
	t := newTable(w, "RULE", "MODE", "THEN", "HITS", "SHARE", "FAILED")
	for _, h := range report.Rules {
		if h.Hits > 0 {
			t.row(h.Rule, h.Mode, h.Then, fmt.Sprint(h.Hits), fmt.Sprintf("%.3f%%", h.Share*100), fmt.Sprint(h.Failed))
		}
	}
	t.flush()
}

// explained is the judgement on one message.
type explained struct {
	Decision string        `json:"decision"`
	Rule     *policy.Rule  `json:"rule,omitempty"`
	Reason   string        `json:"reason,omitempty"`
	Answer   string        `json:"answer,omitempty"` // what the sender gets
	Payload  string        `json:"payload,omitempty"`
	Shadow   []policy.Hit  `json:"shadow"`
	Asked    []policy.Step `json:"asked"`
}

func (c *cli) policyExplain() *cobra.Command {
	in, message := explainEntries{}, ""
	cmd := &cobra.Command{
		Use:   "explain --station ID | --entry SEQ | --message FILE",
		Short: "Tell why messages were refused, or would be",
		Long: `Tell why messages were refused: a station's newest decisions, one entry of the
ledger, or a message in JSON as docs/policy.md describes it (- is standard input).`,
		Args: cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			switch {
			case message != "" && in.Station == "" && in.Entry == 0:
				return c.explainMessage(ctx, message)
			case message == "" && (in.Station == "") != (in.Entry == 0):
				out, err := call[explainEntries, policyEntries](ctx, c, "policy.entries", in)
				if err != nil {
					return err
				}
				return c.print(out, func(w io.Writer) { writeEntries(w, out) })
			}
			return admin.Usagef("", "give one of --station, --entry and --message")
		}),
	}
	cmd.Flags().StringVar(&in.Station, "station", "", "a station's decisions, newest first")
	cmd.Flags().Uint64Var(&in.Entry, "entry", 0, "one entry of the ledger")
	cmd.Flags().IntVar(&in.Limit, "limit", 20, "how many decisions of a station")
	cmd.Flags().StringVar(&message, "message", "", "file with a message; - is standard input")
	return cmd
}

func (c *cli) explainMessage(ctx context.Context, path string) error {
	raw, err := c.readInput(path)
	if err != nil {
		return err
	}
	var m policy.Message
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return admin.Usagef(`such as {"version":"1.6","direction":"from-csms","action":"Reset","payload":{"type":"Hard"}}`, "this is no message: %w", err)
	}
	in, err := m.Input()
	if err != nil {
		return admin.Usagef("docs/policy.md has an example", "%w", err)
	}
	set, err := loadPolicy(c.data)
	if err != nil {
		return err
	}
	withAnchors(c.trustedKeys(ctx))(&in)
	in.Counters = policy.NewCounters()
	out, err := explainDecision(set, in)
	if err != nil {
		return err
	}
	return c.print(out, func(w io.Writer) { writeExplained(w, out) })
}

func explainDecision(set *policy.Set, in policy.Input) (explained, error) {
	d, steps := set.Explain(in)
	out := explained{Decision: d.Outcome(), Reason: d.Reason, Payload: string(d.Rewritten),
		Shadow: append([]policy.Hit{}, d.Shadow...), Asked: append([]policy.Step{}, steps...)}
	if rule, ok := set.Rule(d.Rule); ok {
		out.Rule = &rule
	}
	switch {
	case d.Answer != nil:
		raw, err := json.Marshal(d.Answer)
		if err != nil {
			return out, err
		}
		out.Answer = "CALLRESULT " + string(raw)
	case d.Code != "":
		out.Answer = "CALLERROR " + d.Code.Spell(in.Version)
	}
	return out, nil
}

func writeExplained(w io.Writer, out explained) {
	fmt.Fprint(w, out.Decision)
	if out.Rule != nil {
		fmt.Fprintf(w, " by rule %s (%s:%d): %s", out.Rule.Name, out.Rule.File, out.Rule.Line, out.Reason)
	}
	fmt.Fprintln(w)
	if out.Answer != "" {
		fmt.Fprintf(w, "its sender gets %s\n", out.Answer)
	}
	if out.Payload != "" {
		fmt.Fprintf(w, "handed on as %s\n", out.Payload)
	}
	for _, hit := range out.Shadow {
		fmt.Fprintf(w, "in shadow: %s would %s\n", hit.Rule, hit.Then)
	}
	for _, step := range out.Asked {
		verdict := "does not match"
		if step.Matched {
			verdict = "matches"
		}
		if step.Fault != "" {
			verdict += ": " + step.Fault
		}
		fmt.Fprintf(w, "  %s %s\n", step.Rule, verdict)
	}
}

func writeEntries(w io.Writer, out policyEntries) {
	if len(out.Entries) == 0 {
		fmt.Fprintln(w, "no decisions")
		return
	}
	for _, e := range out.Entries {
		fmt.Fprintf(w, "entry %d, %s: %s %s of station %s", e.Seq, when(&e.At), e.Decision, e.Action, e.Station)
		if e.Count != "1" {
			fmt.Fprintf(w, ", %s times", e.Count)
		}
		fmt.Fprintf(w, " (%s)\n  rule %s: %s\n", e.Direction, e.RuleName, e.Reason)
		switch {
		case e.Rule == nil:
			fmt.Fprintln(w, "  there is no such rule any more")
		case e.Rule.Mode != "enforce":
			fmt.Fprintf(w, "  it stands in shadow now, at %s:%d\n", e.Rule.File, e.Rule.Line)
		default:
			fmt.Fprintf(w, "  it stands at %s:%d\n", e.Rule.File, e.Rule.Line)
		}
	}
}

func (c *cli) policyReload() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Have the running server take the rules of DIR/policy, if all of them are good",
		Args:  cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			out, err := call[admin.None, policyState](ctx, c, "policy.reload", admin.None{})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "%d rules are in force\n", len(out.Rules))
				for _, f := range out.Findings {
					fmt.Fprintln(w, f)
				}
			})
		}),
	}
}

func (c *cli) policyPromote() *cobra.Command {
	return &cobra.Command{
		Use:   "promote RULE",
		Short: "Turn a rule on that stands in shadow",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			out, err := call[ruleRef, promotion](ctx, c, "policy.promote", ruleRef{args[0]})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "%s is in force: it will %s what %s\n", out.Rule.Name, out.Rule.Then, strings.TrimSuffix(out.Rule.Reason, "."))
				if out.Replayed != nil {
					fmt.Fprintf(w, "of %d recorded messages it meets %d (%.3f%%)\n", out.Messages, out.Replayed.Hits, out.Replayed.Share*100)
				} else {
					fmt.Fprintln(w, "no traffic was recorded to try it on (policy.record_mb)")
				}
				if out.ShadowHits > 0 {
					fmt.Fprintf(w, "in shadow it met %d messages since the server started\n", out.ShadowHits)
				}
			})
		}),
	}
}

func (c *cli) policyDemote() *cobra.Command {
	return &cobra.Command{
		Use:   "demote RULE",
		Short: "Put a promoted rule back into shadow",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			out, err := call[ruleRef, promotion](ctx, c, "policy.demote", ruleRef{args[0]})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { fmt.Fprintf(w, "%s stands in shadow\n", out.Rule.Name) })
		}),
	}
}

func (c *cli) policyHeld() *cobra.Command {
	return &cobra.Command{
		Use:   "held",
		Short: "Show messages that wait for the operator",
		Args:  cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			out, err := call[admin.None, heldMessages](ctx, c, "policy.held", admin.None{})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				t := newTable(w, "ID", "STATION", "ACTION", "RULE", "LAST TRY", "RELEASED")
				for _, h := range out.Held {
					t.row(h.ID, h.Station, h.Action, h.Rule, when(&h.HeldAt), map[bool]string{true: "yes", false: "no"}[h.Released])
				}
				t.flush()
			})
		}),
	}
}

func (c *cli) policyRelease() *cobra.Command {
	return &cobra.Command{
		Use:   "release ID",
		Short: "Let a held message pass, once, when it is sent again",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			out, err := call[heldRef, warden.Held](ctx, c, "policy.release", heldRef{args[0]})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "%s to %s passes when it is sent again\n", out.Action, out.Station)
			})
		}),
	}
}
