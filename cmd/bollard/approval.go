package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/approval"
	"bollard/approval/docket"
	"bollard/internal/config"
)

func (c *cli) approvalCommand() *cobra.Command {
	cmd := c.group("approval", "What takes several people: ask, sign, verify",
		c.approvalRequest(), c.approvalShow(), c.approvalSign(), c.approvalList(), c.approvalWithdraw(), c.approvalVerify())
	cmd.Long = `What takes several people: one asks, others sign the statement with keys of their
own, and when enough have, the command that needs it can be given, once. Who
counts stands in bollard.yaml (approvers, approvals); docs/approvals.md has it all.`
	return cmd
}

func (c *cli) approverCommand() *cobra.Command {
	return c.group("approver", "People who approve", &cobra.Command{
		Use:   "list",
		Short: "List the people who approve, their keys, and what they can approve",
		Args:  cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			out, err := call[admin.None, admin.Approvers](ctx, c, "approver.list", admin.None{})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) {
				t := newTable(w, "NAME", "KIND", "KEY", "APPROVES")
				for _, a := range out.Approvers {
					var actions []string
					for _, q := range a.Actions {
						actions = append(actions, fmt.Sprintf("%s (%d needed)", q.Action, q.Needed))
					}
					for _, k := range a.Keys {
						t.row(a.Name, string(k.Kind), k.ID, strings.Join(actions, ", "))
					}
				}
				t.flush()
			})
		}),
	})
}

func (c *cli) approvalRequest() *cobra.Command {
	var in admin.AskApproval
	cmd := &cobra.Command{
		Use:   "request ACTION NAME --reason TEXT",
		Short: "Ask people to approve an action, such as station.downgrade CS-1",
		Args:  cobra.ExactArgs(2),
		RunE: c.do(func(ctx context.Context, args []string) error {
			in.Action, in.Name = args[0], args[1]
			out, err := call[admin.AskApproval, admin.Approval](ctx, c, "approval.request", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { writeApproval(w, &out) })
		}),
	}
	f := cmd.Flags()
	f.StringVar(&in.Reason, "reason", "", "why, for those who sign and for the ledger (required)")
	f.StringVar(&in.Person, "author", "", "who asks, where several people share this account; that person can't sign")
	spanVar(cmd, &in.Valid, "valid", 0, "how long it can be signed and used, such as 12h; without it 72h")
	return cmd
}

func (c *cli) approvalShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show what is asked for, who has signed, and what is missing; --json to keep and verify it",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			out, err := call[admin.ApprovalRef, admin.Approval](ctx, c, "approval.show", admin.ApprovalRef{ID: args[0]})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { writeApproval(w, &out) })
		}),
	}
}

func (c *cli) approvalSign() *cobra.Command {
	file, printIt := "", false
	cmd := &cobra.Command{
		Use:   "sign ID --print | sign ID --signature FILE",
		Short: "Print the statement to sign, or hand a signature in",
		Long: `Print the statement to sign, byte for byte, or hand a signature over it in. It is
made where your key is, with

  ssh-keygen -Y sign -n bollard-approval -f KEY statement
  openssl cms -sign -binary -md sha256 -outform PEM -signer CERT -inkey KEY -in statement

Whose it is follows from the key, not from who hands it in.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			if printIt == (file != "") {
				return admin.Usagef("first --print, then --signature FILE", "give one of --print and --signature")
			}
			if printIt {
				out, err := call[admin.ApprovalRef, admin.Approval](ctx, c, "approval.show", admin.ApprovalRef{ID: args[0]})
				if err != nil {
					return err
				}
				_, err = io.WriteString(c.stdout, out.Statement)
				return err
			}
			text, err := c.readInput(file)
			if err != nil {
				return err
			}
			out, err := call[admin.SignApproval, admin.Approval](ctx, c, "approval.sign", admin.SignApproval{ID: args[0], Signature: text})
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { writeApproval(w, &out) })
		}),
	}
	cmd.Flags().BoolVar(&printIt, "print", false, "print the statement")
	cmd.Flags().StringVar(&file, "signature", "", "file with the signature; - is standard input")
	return cmd
}

func (c *cli) approvalList() *cobra.Command {
	all := false
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List what waits for signatures or can be used; --all for the rest too",
		Args:  cobra.NoArgs,
		RunE: c.do(func(ctx context.Context, _ []string) error {
			out, err := call[admin.None, admin.Approvals](ctx, c, "approval.list", admin.None{})
			if err != nil {
				return err
			}
			shown := admin.Approvals{Approvals: []admin.Approval{}}
			for _, a := range out.Approvals {
				if all || a.State == docket.Waiting || a.State == docket.Granted {
					shown.Approvals = append(shown.Approvals, a)
				}
			}
			return c.print(shown, func(w io.Writer) {
				t := newTable(w, "ID", "ACTION", "STATE", "SIGNED", "AUTHOR", "EXPIRES", "SCOPE")
				for _, a := range shown.Approvals {
					t.row(a.Nonce, a.Action, string(a.State), fmt.Sprintf("%d of %d", len(a.By), a.Quorum.Needed), a.Author, when(&a.Expires), a.Scope)
				}
				t.flush()
			})
		}),
	}
	cmd.Flags().BoolVar(&all, "all", false, "used, withdrawn and void ones too")
	return cmd
}

func (c *cli) approvalWithdraw() *cobra.Command {
	var in admin.WithdrawApproval
	cmd := &cobra.Command{
		Use:   "withdraw ID --reason TEXT",
		Short: "Close a request; what was signed counts no more",
		Args:  cobra.ExactArgs(1),
		RunE: c.do(func(ctx context.Context, args []string) error {
			in.ID = args[0]
			out, err := call[admin.WithdrawApproval, admin.Approval](ctx, c, "approval.withdraw", in)
			if err != nil {
				return err
			}
			return c.print(out, func(w io.Writer) { fmt.Fprintf(w, "approval %s is withdrawn\n", out.Nonce) })
		}),
	}
	cmd.Flags().StringVar(&in.Reason, "reason", "", "why, for the ledger (required)")
	return cmd
}

// verifiedApproval is what approval verify finds.
type verifiedApproval struct {
	Nonce  string   `json:"nonce"`
	Action string   `json:"action"`
	Scope  string   `json:"scope"`
	By     []string `json:"by"`
	// Keys is whose word the keys are: the configuration given, or the approval itself.
	Keys string `json:"keys"`
}

func (c *cli) approvalVerify() *cobra.Command {
	known := ""
	cmd := &cobra.Command{
		Use:   "verify FILE [--config bollard.yaml]",
		Short: "Verify offline what approval show --json printed",
		Long: `Verify what approval show --json printed, without data directory or server: that
the statement is about the subject, and that enough people signed it in time. With
--config the people's keys come from that file, kept elsewhere; without it the
approval's own word is taken for whose keys they are. That it was recorded and
used, ledger prove ID shows.`,
		Args: cobra.ExactArgs(1),
		RunE: c.do(func(_ context.Context, args []string) error {
			text, err := c.readInput(args[0])
			if err != nil {
				return err
			}
			var a admin.Approval
			if err := json.Unmarshal(text, &a); err != nil {
				return admin.Usagef("give what `bollard approval show ID --json` printed", "couldn't read the approval in %s: %w", args[0], err)
			}
			out := verifiedApproval{Nonce: a.Nonce, Action: a.Action, Scope: a.Scope, Keys: "the approval"}
			var people []approval.Approver
			if known != "" {
				if people, a.Quorum, err = knownApprovers(known, a.Action); err != nil {
					return err
				}
				out.Keys = known
			}
			if statement, err := a.Request.Statement(); err != nil || string(statement) != a.Statement {
				return admin.Refusedf("", "the statement isn't that of the request: it was changed")
			}
			if out.By, err = docket.Verify(&a.Matter, people); err != nil {
				return admin.Refusedf("", "approval %.40s doesn't hold: %w", a.Nonce, err)
			}
			return c.print(out, func(w io.Writer) {
				fmt.Fprintf(w, "%s of %s was approved by %s, by the keys in %s\n", out.Action, out.Scope, strings.Join(out.By, ", "), out.Keys)
			})
		}),
	}
	cmd.Flags().StringVar(&known, "config", "", "bollard.yaml with the people's keys, kept elsewhere")
	return cmd
}

// knownApprovers reads who approves an action from a configuration kept elsewhere,
// without the other files that one names.
func knownApprovers(path, action string) ([]approval.Approver, approval.Quorum, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, approval.Quorum{}, err
	}
	cfg, err := config.Parse(path, text)
	if err != nil {
		return nil, approval.Quorum{}, err
	}
	people, err := approvers(filepath.Dir(path), cfg)
	if err != nil {
		return nil, approval.Quorum{}, err
	}
	for _, q := range cfg.Approvals {
		if q.Action == action {
			return people, approval.Quorum{Needed: q.Needed, Of: q.Of, With: q.With}, nil
		}
	}
	return nil, approval.Quorum{}, admin.Refusedf("", "%s says nothing of who approves %.80q", path, action)
}

func writeApproval(w io.Writer, a *admin.Approval) {
	fmt.Fprintf(w, "approval %s is %s\n", a.Nonce, a.State)
	if a.Note != "" {
		fmt.Fprintf(w, "%s\n", a.Note)
	}
	fmt.Fprintf(w, "reason: %s\n\n%s\n%s\n", a.Reason, a.Subject, a.Statement)
	for _, s := range a.Signatures {
		fmt.Fprintf(w, "signed by %s at %s\n", s.By, s.At.UTC().Format(time.RFC3339))
	}
	if a.State == docket.Waiting {
		fmt.Fprintf(w, "%d of %d people have signed; `bollard approval sign %s --print` prints the statement\n", len(a.By), a.Quorum.Needed, a.Nonce[:8])
	}
}
