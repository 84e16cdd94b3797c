package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"bollard/admin"
	"bollard/internal/config"
)

// Exit codes of every command.
const (
	exitDone   = 0
	exitFailed = 1 // refused or failed
	exitUsage  = 2 // wrong usage or configuration
)

// defaultData is the data directory without --data and BOLLARD_DATA.
const defaultData = "./bollard-data"

// cli is one run of the program: its streams and the flags every command has.
type cli struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	data           string
	json           bool
	// passphraseStdin: the passphrase of key files is on stdin.
	passphraseStdin bool
	backupCost      int  // log2 of what a guess at a backup's passphrase costs; 0: about a second
	started         bool // a command's own code ran: errors before it are cobra's, about usage
}

// run is the whole program but the process.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return (&cli{stdin: stdin, stdout: stdout, stderr: stderr}).run(ctx, args)
}

func (c *cli) run(ctx context.Context, args []string) int {
	root := c.root() //nolint:contextcheck // commands get ctx through cobra
	// An operation's input crosses the socket as JSON, which would make another
	// identity of bytes that aren't text.
	for i, arg := range args {
		if !utf8.ValidString(arg) {
			return c.report(admin.Usagef("a data directory with such a name can be given as BOLLARD_DATA", "argument %d, %q, isn't UTF-8", i+1, arg))
		}
	}
	root.SetArgs(args)
	root.SetIn(c.stdin)
	root.SetOut(c.stdout)
	root.SetErr(c.stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	if !c.started {
		err = usageError(cmd, err)
	}
	return c.report(err)
}

// usageError says how a command is used that was given in another way.
func usageError(cmd *cobra.Command, err error) error {
	hint := "`" + cmd.CommandPath() + " --help` shows how it is used"
	if !cmd.HasSubCommands() {
		hint = "`" + cmd.UseLine() + "`; --help tells more"
	}
	var value *pflag.InvalidValueError
	if errors.As(err, &value) {
		cause := value.Unwrap()
		if number := new(strconv.NumError); errors.As(cause, &number) { // it names a function of Go's
			cause = fmt.Errorf("%q is no number", value.GetValue())
		}
		err = fmt.Errorf("--%s: %w", value.GetFlag().Name, cause)
	}
	return admin.Usagef(hint, "%w", err)
}

// shellWord is a path or a name as a shell takes it in a command that is shown.
func shellWord(text string) string {
	special := func(r rune) bool {
		return r < utf8.RuneSelf && !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("/._-+:,@%=", r) || unicode.IsSpace(r)
	}
	if text != "" && !strings.ContainsFunc(text, special) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

func (c *cli) root() *cobra.Command {
	root := c.group("bollard", "Front end, identities and certificates for OCPP charging stations",
		c.initCommand(),
		c.serveCommand(),
		c.demoCommand(),
		c.stationCommand(),
		c.fleetCommand(),
		c.caCommand(),
		c.certCommand(),
		c.keysCommand(),
		c.backendCommand(),
		c.policyCommand(),
		c.ledgerCommand(),
		c.approvalCommand(),
		c.approverCommand(),
		c.firmwareCommand(),
		c.contractCommand(),
		c.poolCommand(),
		c.acmeCommand(),
		c.stepCommand(),
		c.tariffCommand(),
		c.exiCommand(),
		c.alertCommand(),
		c.backupCommand(),
		c.restoreCommand(),
		c.doctorCommand(),
		c.versionCommand(),
	)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.HiddenDefaultCmd = true
	data := os.Getenv("BOLLARD_DATA")
	if data == "" {
		data = defaultData
	}
	root.PersistentFlags().StringVar(&c.data, "data", data, "data directory (environment BOLLARD_DATA)")
	root.PersistentFlags().BoolVar(&c.json, "json", false, "print data as JSON")
	root.PersistentFlags().BoolVar(&c.passphraseStdin, passphraseFlag, false, "read the passphrase of key files from standard input: one line, and nothing else")
	return root
}

// group is a command that only holds others.
func (c *cli) group(use, short string, commands ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: use, Short: short}
	g.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
		}
		return fmt.Errorf("%s needs a command", cmd.CommandPath())
	}
	g.Args = cobra.ArbitraryArgs // judged above: cobra would print help and succeed
	g.AddCommand(commands...)
	return g
}

// do wraps a command's own code, from where errors are no longer cobra's.
func (c *cli) do(f func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c.started = true
		ctx := cmd.Context()
		if c.passphraseStdin {
			var err error
			if ctx, err = c.withPassphrase(ctx); err != nil {
				return err
			}
		}
		return f(ctx, args)
	}
}

// report prints an error with what to do next, and returns the exit code.
func (c *cli) report(err error) int {
	text, hint, code := explain(err)
	fmt.Fprintf(c.stderr, "error: %s\n", text)
	if hint != "" {
		fmt.Fprintf(c.stderr, "hint: %s\n", hint)
	}
	return code
}

func explain(err error) (text, hint string, code int) {
	var wrong *config.Error
	if errors.As(err, &wrong) {
		return err.Error(), "", exitUsage // its text says what to do
	}
	e := admin.Explain(err)
	if e.Kind == admin.KindUsage {
		code = exitUsage
	} else {
		code = exitFailed
	}
	// Several errors joined stand one a line.
	return strings.ReplaceAll(e.Text, "\n", "\n  "), e.Hint, code
}

// printOnce is print for what can't be shown again: if it fails, the error says
// what was done all the same and how to get another.
func (c *cli) printOnce(done, another string, data any, text func(w io.Writer)) error {
	if err := c.print(data, text); err != nil {
		return admin.Failedf(another, "%s: %w", done, err)
	}
	return nil
}

// print writes data as JSON, or as the text given when --json wasn't.
func (c *cli) print(data any, text func(w io.Writer)) error {
	var b bytes.Buffer
	if c.json {
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(data); err != nil {
			return fmt.Errorf("couldn't encode the output: %w", err)
		}
	} else {
		text(&b)
	}
	if _, err := c.stdout.Write(b.Bytes()); err != nil {
		return fmt.Errorf("couldn't write the output: %w", err)
	}
	return nil
}
