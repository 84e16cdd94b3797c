package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/iso15118/exi"
)

// maxEXIText bounds what the exi commands read: hex or JSON of exi.MaxInput.
const maxEXIText = 8 * exi.MaxInput

// exiJSON is an element as the exi commands print and read it.
type exiJSON struct {
	Schema  string          `json:"schema"`
	Grammar string          `json:"grammar"`
	Root    exiRoot         `json:"root"`
	Content json.RawMessage `json:"content"`
}

type exiRoot struct {
	NS   string `json:"ns"`
	Name string `json:"name"`
}

// exiOptions name the schema set and the grammar.
type exiOptions struct {
	schema, grammar string
	raw             bool
}

func (o *exiOptions) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.schema, "schema", "", "iso15118-2, iso15118-20-common or xmldsig")
	cmd.Flags().StringVar(&o.grammar, "grammar", "", "document (a whole message) or fragment (what signatures digest)")
}

func (o *exiOptions) parse() (*exi.Set, exi.Grammar, error) {
	set, err := exi.SetNamed(o.schema)
	if err != nil {
		return nil, 0, admin.Usagef("give --schema", "%w", err)
	}
	grammar, err := exi.ParseGrammar(o.grammar)
	if err != nil {
		return nil, 0, admin.Usagef("give --grammar", "%w", err)
	}
	return set, grammar, nil
}

func (c *cli) exiCommand() *cobra.Command {
	return c.group("exi", "EXI of ISO 15118: read and write messages and signed elements", c.exiDecode(), c.exiEncode())
}

func (c *cli) exiDecode() *cobra.Command {
	var o exiOptions
	cmd := &cobra.Command{
		Use:   "decode",
		Short: "Print EXI from standard input, in hex, as JSON",
		Long: `Print EXI from standard input, in hex, as JSON: {"schema","grammar","root","content"}.
Content has "@NAME" for attributes, "#" for text beside them, {"hex"} for bytes
and an array where an element may come more than once.
What isn't spelled in the one way ISO 15118 allows is refused.`,
		Args: cobra.NoArgs,
		RunE: c.do(func(context.Context, []string) error {
			set, grammar, err := o.parse()
			if err != nil {
				return err
			}
			in, err := c.readEXI("EXI")
			if err != nil {
				return err
			}
			if !o.raw {
				text := bytes.Join(bytes.Fields(in), nil)
				in = make([]byte, hex.DecodedLen(len(text)))
				if _, err := hex.Decode(in, text); err != nil {
					return admin.Failedf("--raw reads bytes as they are", "standard input isn't hex: %w", err)
				}
			}
			root, err := set.Decode(grammar, in)
			if err != nil {
				return err
			}
			content, err := set.ElementJSON(grammar, root)
			if err != nil {
				return err
			}
			out := exiJSON{Schema: set.String(), Grammar: grammar.String(), Root: exiRoot{root.Space, root.Local}, Content: content}
			c.json = true // there is no other form
			return c.print(out, nil)
		}),
	}
	o.flags(cmd)
	cmd.Flags().BoolVar(&o.raw, "raw", false, "standard input is the bytes themselves")
	return cmd
}

func (c *cli) exiEncode() *cobra.Command {
	var o exiOptions
	cmd := &cobra.Command{
		Use:   "encode",
		Short: "Print JSON from standard input, as decode prints it, as EXI in hex",
		Args:  cobra.NoArgs,
		RunE: c.do(func(context.Context, []string) error {
			set, grammar, err := o.parse()
			if err != nil {
				return err
			}
			in, err := c.readEXI("JSON")
			if err != nil {
				return err
			}
			tree, err := readEXIJSON(in)
			if err != nil {
				return admin.Failedf("`bollard exi decode` prints an example", "couldn't read standard input: %w", err)
			}
			if tree.Schema != "" && tree.Schema != set.String() || tree.Grammar != "" && tree.Grammar != grammar.String() {
				return admin.Failedf("give the --schema and --grammar it was made for", "standard input is a %s %s, not a %s %s", tree.Schema, tree.Grammar, set, grammar)
			}
			name, err := set.Lookup(grammar, tree.Root.NS, tree.Root.Name)
			if err != nil {
				return err
			}
			root, err := set.ParseElement(grammar, name, tree.Content)
			if err != nil {
				return err
			}
			out, err := set.Encode(grammar, root)
			if err != nil {
				return err
			}
			text := hex.EncodeToString(out)
			return c.print(map[string]string{"hex": text}, func(w io.Writer) { fmt.Fprintln(w, text) })
		}),
	}
	o.flags(cmd)
	return cmd
}

func (c *cli) readEXI(what string) ([]byte, error) {
	in, err := io.ReadAll(io.LimitReader(c.stdin, maxEXIText+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("couldn't read %s from standard input: %w", what, err)
	case len(in) == 0:
		return nil, admin.Usagef("pipe it into the command", "there is no %s on standard input", what)
	case len(in) > maxEXIText:
		return nil, admin.Failedf("", "more than %d bytes on standard input", maxEXIText)
	}
	return in, nil
}

func readEXIJSON(in []byte) (exiJSON, error) {
	var tree exiJSON
	d := json.NewDecoder(bytes.NewReader(in))
	d.DisallowUnknownFields()
	if err := d.Decode(&tree); err != nil {
		return tree, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return tree, errors.New("something follows the object")
	}
	if tree.Root.Name == "" || tree.Content == nil {
		return tree, errors.New(`"root" with "name", and "content" are wanted`)
	}
	return tree, nil
}
