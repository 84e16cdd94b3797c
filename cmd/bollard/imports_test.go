package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// levels are the packages of the house from the bottom up: imports go downward
// only, and nobody imports a neighbour of its own level.
var levels = [][]string{
	{"ocpp", "iso15118", "keys", "tpm", "ledger", "detect", "locker"},
	{"ca", "policy", "uploads", "approval"},
	{"fleet", "alert", "firmware", "contract"},
	{"gateway", "admin", "station", "backup", "warden"},
	{"store"},
	{"cmd"},
}

// owners are libraries that few folders, with those in them, keep to themselves.
var owners = map[string][]string{
	"github.com/theupdateframework/go-tuf/v2/metadata": {"firmware/tuf"},
	"github.com/gorilla/websocket":                     {"internal/ws"},
	"github.com/mattn/go-sqlite3":                      {"store"},
	"filippo.io/age":                                   {"backup"},
	"github.com/pressly/goose/v3":                      {"store"},
	"go.yaml.in/yaml/v3":                               {"internal/config"},
	"cel.dev/cel-go/cel":                               {"policy"},
	"github.com/pkg/sftp":                              {"locker"},
	"github.com/go-jose/go-jose/v4":                    {"ca/acme", "ca/step"},
	"github.com/go-jose/go-jose/v4/jwt":                {"ca/step"},
	"golang.org/x/crypto/acme":                         {"ca/subscriber"},
	"github.com/spf13/cobra":                           {"cmd/bollard"},
	"github.com/zmap/zlint/v3":                         {"ca"},
	"github.com/zmap/zlint/v3/lint":                    {"ca"},
	"github.com/google/go-tpm/tpm2":                    {"tpm", "keys/tpm", "bench"},
	"github.com/google/go-attestation/attest":          {"tpm"},
	"github.com/miekg/pkcs11":                          {"bench"},
	"github.com/ThalesGroup/crypto11":                  {"keys"},
	"github.com/fxamacker/cbor/v2":                     {"tpm"},
	"github.com/hashicorp/vault/api":                   {"keys/vault"},
}

// pure packages take time and randomness as arguments and touch nothing.
var pure = []string{"ocpp", "ledger", "ledger/report", "iso15118/exi", "iso15118/signature", "iso15118/envelope", "iso15118/identifier", "iso15118/message", "iso15118/tariff", "detect", "approval", "policy", "internal/rollout", "internal/window", "firmware/release", "firmware/job", "tpm/attest"}

var impure = []string{"net", "net/http", "os", "os/exec", "io/ioutil", "database/sql", "syscall", "crypto/rand", "math/rand", "math/rand/v2", "log", "log/slog"}

type listedPackage struct {
	ImportPath string
	Dir        string
	Imports    []string
	GoFiles    []string
}

// goList lists packages and all that they import.
func goList(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-deps"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("couldn't list the packages: %v: %s", err, stderr.Bytes())
	}
	return out
}

func listPackages(t *testing.T) []listedPackage {
	t.Helper()
	var list []listedPackage
	d := json.NewDecoder(bytes.NewReader(goList(t, "-tags", "cloudkms", "-json=ImportPath,Dir,Imports,GoFiles", "../../...")))
	for {
		var p listedPackage
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := strings.CutPrefix(p.ImportPath, "bollard/"); ok {
			list = append(list, p)
		}
	}
}

// level of a package of ours; -1 is internal, which is below all.
func level(pkg string) (int, bool) {
	top, _, _ := strings.Cut(pkg, "/")
	if top == "internal" {
		return -1, true
	}
	i := slices.IndexFunc(levels, func(l []string) bool { return slices.Contains(l, top) })
	return i, i >= 0
}

// importFault says why a package of the house may not import another; both
// without the module's name.
func importFault(from, to string, ours bool) string {
	if !ours {
		within := func(owner string) bool { return from == owner || strings.HasPrefix(from, owner+"/") }
		if kept := owners[to]; kept != nil && !slices.ContainsFunc(kept, within) {
			return "only " + strings.Join(kept, " and ") + " may"
		}
		if strings.HasPrefix(to, "go.step.sm/crypto") && from != "ca" && from != "keys" {
			return "only ca and keys may"
		}
		if isCloud(to) && !within("keys/awskms") {
			return "only keys/awskms may"
		}
		if slices.Contains(pure, from) && slices.Contains(impure, to) {
			return from + " is pure"
		}
		return ""
	}
	at, known := level(from)
	below, _ := level(to)
	switch {
	case from == "gateway" && (to == "ca" || to == "keys"):
		return "the gateway declares what it needs, and cmd connects it"
	case !known:
		return "" // benchmarks and end-to-end rigs stand outside the house
	case at == -1:
		return "internal packages import nothing of ours"
	case at == below && sameFolder(from, to):
		return ""
	case below >= at:
		return "imports go downward only, never to a neighbour"
	}
	return ""
}

// sameFolder: a package and those in its own folder are one neighbour.
func sameFolder(a, b string) bool {
	topA, _, _ := strings.Cut(a, "/")
	topB, _, _ := strings.Cut(b, "/")
	return topA == topB
}

func TestImportDirections(t *testing.T) {
	t.Parallel()
	packages := listPackages(t)
	if len(packages) < 10 {
		t.Fatalf("only %d packages were listed", len(packages))
	}
	for _, p := range packages {
		from := strings.TrimPrefix(p.ImportPath, "bollard/")
		if _, known := level(from); !known && !slices.Contains([]string{"bench", "e2e"}, strings.Split(from, "/")[0]) && from != "zzdeps" {
			t.Errorf("%s has no place in the house: give it a level here and in the layout", from)
		}
		for _, imported := range p.Imports {
			to, ours := strings.CutPrefix(imported, "bollard/")
			if strings.HasPrefix(from, "e2e/peers") || from == "zzdeps" {
				continue // real peers, with libraries of their own
			}
			if why := importFault(from, to, ours); why != "" {
				t.Errorf("%s imports %s: %s", from, imported, why)
			}
		}
	}
}

// isCloud: a package of a cloud's SDK.
func isCloud(pkg string) bool {
	return slices.ContainsFunc([]string{"github.com/aws/", "github.com/Azure/", "github.com/AzureAD/", "cloud.google.com/"}, func(of string) bool { return strings.HasPrefix(pkg, of) })
}

// The ordinary program, and the tests and tools beside it, link nothing of a cloud's.
func TestCloudsAreBehindTheirTag(t *testing.T) {
	t.Parallel()
	clouds := func(args ...string) (found []string) {
		for pkg := range strings.Lines(string(goList(t, args...))) {
			if isCloud(pkg) || strings.HasPrefix(pkg, "bollard/keys/awskms") {
				found = append(found, strings.TrimSpace(pkg))
			}
		}
		return found
	}
	if found := clouds("-tags", "", "../../..."); len(found) > 0 {
		t.Errorf("without the tag there are %v", found)
	}
	if !slices.Contains(clouds("-tags", "cloudkms", "."), "github.com/aws/aws-sdk-go-v2/service/kms") {
		t.Error("with the tag there is no KMS of AWS's")
	}
}

// Pure packages are given the time; none reads a clock.
func TestPurePackagesReadNoClock(t *testing.T) {
	t.Parallel()
	for _, p := range listPackages(t) {
		if !slices.Contains(pure, strings.TrimPrefix(p.ImportPath, "bollard/")) {
			continue
		}
		for _, name := range p.GoFiles {
			source, err := os.ReadFile(filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if call := clockCall(t, source); call != "" {
				t.Errorf("%s/%s calls %s", p.ImportPath, name, call)
			}
		}
	}
	if clockCall(t, []byte("package p\nimport \"time\"\nvar x = time.Now()\n")) == "" {
		t.Error("a clock call wasn't found where there is one")
	}
}

func clockCall(t *testing.T, source []byte) string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "", source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	found := ""
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := call.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "After", "Sleep", "NewTimer", "NewTicker", "Tick"}, call.Sel.Name) {
			found = "time." + call.Sel.Name
		}
		return true
	})
	return found
}

// The rules themselves must be able to say no.
func TestImportFault(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		from, to string
		ours     bool
		allowed  bool
	}{
		"downward":                    {"gateway", "fleet", true, true},
		"to internal":                 {"ocpp", "internal/ws", true, true},
		"within a folder":             {"station/csms", "station", true, true},
		"gateway must not know ca":    {"gateway", "ca", true, false},
		"neighbour":                   {"gateway", "admin", true, false},
		"the gate to who cheats it":   {"firmware/gate", "station", true, false},
		"upward":                      {"fleet", "store", true, false},
		"internal to ours":            {"internal/ws", "ocpp", true, false},
		"gorilla":                     {"gateway", "github.com/gorilla/websocket", false, false},
		"gorilla at home":             {"internal/ws", "github.com/gorilla/websocket", false, true},
		"a folder in its owner":       {"tpm/attest", "github.com/google/go-tpm/tpm2", false, true},
		"a TPM elsewhere":             {"fleet", "github.com/google/go-tpm/tpm2", false, false},
		"keys in a TPM":               {"keys/tpm", "github.com/google/go-tpm/tpm2", false, true},
		"a TPM in keys":               {"keys", "github.com/google/go-tpm/tpm2", false, false},
		"Vault":                       {"keys", "github.com/hashicorp/vault/api", false, false},
		"a cloud":                     {"keys", "github.com/aws/aws-sdk-go-v2/aws", false, false},
		"a cloud at home":             {"keys/awskms", "github.com/aws/aws-sdk-go-v2/aws", false, true},
		"sqlite":                      {"cmd/bollard", "github.com/mattn/go-sqlite3", false, false},
		"pure package with a network": {"ocpp", "net", false, false},
		"pure package with os":        {"ledger", "os", false, false},
		"key library":                 {"fleet", "go.step.sm/crypto/pemutil", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if why := importFault(tt.from, tt.to, tt.ours); (why == "") != tt.allowed {
				t.Errorf("importFault(%q, %q) = %q", tt.from, tt.to, why)
			}
		})
	}
}
