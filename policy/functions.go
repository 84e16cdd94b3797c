package policy

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"bollard/internal/safehttp"
)

// functions of conditions beside CEL's own.
func functions() []cel.EnvOption {
	text, list := cel.StringType, cel.ListType(cel.StringType)
	return []cel.EnvOption{
		cel.Function("same", cel.Overload("same_string_string", []*cel.Type{text, text}, cel.BoolType, cel.BinaryBinding(same))),
		cel.Function("lower", cel.Overload("lower_string", []*cel.Type{text}, text, cel.UnaryBinding(lower))),
		cel.Function("among", cel.Overload("among_string_list", []*cel.Type{text, list}, cel.BoolType, cel.BinaryBinding(among))),
		cel.Function("url_allowed", cel.Overload("url_allowed_string_list", []*cel.Type{text, list}, cel.BoolType, cel.BinaryBinding(urlAllowed))),
		cel.Function("anchor", cel.Overload("anchor_string_timestamp", []*cel.Type{text, cel.TimestampType}, text, cel.BinaryBinding(anchor))),
	}
}

// same compares as lenient stations do: without case and outer white space.
func same(a, b ref.Val) ref.Val {
	left, ok := a.(types.String)
	right, okay := b.(types.String)
	if !ok || !okay {
		return types.MaybeNoSuchOverloadErr(a)
	}
	return types.Bool(fold(string(left)) == fold(string(right)))
}

func lower(a ref.Val) ref.Val {
	text, ok := a.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(a)
	}
	return types.String(fold(string(text)))
}

// among is same with one of a list.
func among(a, b ref.Val) ref.Val {
	text, ok := a.(types.String)
	list, okay := texts(b)
	if !ok || !okay {
		return types.MaybeNoSuchOverloadErr(a)
	}
	folded := fold(string(text))
	return types.Bool(slices.ContainsFunc(list, func(s string) bool { return fold(s) == folded }))
}

func texts(v ref.Val) ([]string, bool) {
	if list, ok := v.Value().([]string); ok {
		return list, true
	}
	list, err := v.ConvertToNative(reflect.TypeFor[[]string]())
	if err != nil {
		return nil, false
	}
	out, ok := list.([]string)
	return out, ok
}

// urlAllowed judges a URL that a station is told to transfer a file to or from, by
// the rules of internal/safehttp. An entry of the list is a host as there, with
// the scheme's own port, or HOST:PORT.
func urlAllowed(a, b ref.Val) ref.Val {
	raw, ok := a.(types.String)
	if known, is := b.(*hosts); ok && is {
		judges, err := known.judges()
		return allowed(judges, err, string(raw))
	}
	list, okay := texts(b)
	if !ok || !okay {
		return types.MaybeNoSuchOverloadErr(a)
	}
	judges, err := hostJudges(list)
	return allowed(judges, err, string(raw))
}

// hosts is a list of a rule file. What url_allowed needs of it is made once, at
// its first use as a list of hosts.
type hosts struct {
	traits.Lister
	judges func() ([]*safehttp.List, error)
}

func newHosts(list []string) *hosts {
	return &hosts{types.NewStringList(types.DefaultTypeAdapter, list), sync.OnceValues(func() ([]*safehttp.List, error) { return hostJudges(list) })}
}

func allowed(judges []*safehttp.List, err error, url string) ref.Val {
	if err != nil {
		return types.NewErr("list of hosts: %v", err)
	}
	return types.Bool(slices.ContainsFunc(judges, func(judge *safehttp.List) bool { return judge.Check(url) == nil }))
}

// hostJudges are those of a list, one for each port.
func hostJudges(list []string) ([]*safehttp.List, error) {
	ports, err := safehttp.ByPort(list)
	if err != nil {
		return nil, err
	}
	var judges []*safehttp.List
	for _, port := range slices.Sorted(maps.Keys(ports)) {
		cfg := safehttp.Config{Hosts: ports[port], Credentials: true}
		if port != 0 {
			cfg.Ports = []int{port}
		}
		judge, err := safehttp.NewList(cfg)
		if err != nil {
			return nil, err
		}
		judges = append(judges, judge)
	}
	return judges, nil
}

// maxAnchor bounds a certificate (2.1 allows 10,000 characters).
const maxAnchor = 20_000

func anchor(a, b ref.Val) ref.Val {
	text, ok := a.(types.String)
	at, okay := b.(types.Timestamp)
	if !ok || !okay {
		return types.MaybeNoSuchOverloadErr(a)
	}
	return types.String(Anchor(string(text), at.Time))
}

// Anchor is the SHA-256 of the public key (SubjectPublicKeyInfo) of a root
// certificate as InstallCertificate has it, in lower-case hex; "" if the text is
// not exactly one certificate that may be a trust anchor at this time: of a CA,
// valid, and not signed with MD5 or SHA-1. PEM, and the hex of edition 1 of the
// 1.6 white paper, are read.
func Anchor(text string, at time.Time) string {
	cert := oneCertificate(text)
	switch {
	case cert == nil || !cert.IsCA || !cert.BasicConstraintsValid:
		return ""
	case at.Before(cert.NotBefore) || at.After(cert.NotAfter):
		return ""
	case cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return ""
	}
	switch cert.SignatureAlgorithm {
	case x509.UnknownSignatureAlgorithm, x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.DSAWithSHA256, x509.ECDSAWithSHA1:
		return ""
	}
	return KeyHash(cert)
}

// KeyHash is Anchor's hash of a certificate that is known to be good.
func KeyHash(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

func oneCertificate(text string) *x509.Certificate {
	text = strings.TrimSpace(text)
	if len(text) > maxAnchor {
		return nil
	}
	der, err := hex.DecodeString(text)
	if err != nil {
		if !strings.HasPrefix(text, "-----BEGIN CERTIFICATE-----") {
			return nil // text before it would be skipped, here and maybe not there
		}
		block, rest := pem.Decode([]byte(text))
		if block == nil || block.Type != "CERTIFICATE" || len(block.Headers) > 0 || strings.TrimSpace(string(rest)) != "" {
			return nil
		}
		der = block.Bytes
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil
	}
	return cert
}
