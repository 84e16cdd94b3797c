package ca

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	zlintlib "github.com/zmap/zlint/v3/lint"
)

// exclusion is an RFC 5280 lint that a profile can't pass, and why.
type exclusion struct {
	lint     string
	profiles []string
	clause   string
	why      string
}

// exclusions stay few: a test fails when one is no longer needed.
var exclusions = []exclusion{
	{
		lint: "e_ext_authority_key_identifier_no_key_identifier", profiles: []string{ProfileRoot, ProfileAnchor, ProfileMobilityRoot},
		clause: "RFC 5280 §4.2.1.1",
		why:    "a self-signed certificate may omit it; zlint takes the root for another CA's because a draft's signature doesn't verify",
	},
}

// rfc5280 is zlint's RFC 5280 set, made once: building it costs more than running it.
var rfc5280 = sync.OnceValues(func() (zlintlib.Registry, error) {
	return zlintlib.GlobalRegistry().Filter(zlintlib.FilterOptions{IncludeSources: zlintlib.SourceList{zlintlib.RFC5280}})
})

// lintRFC5280 returns every warning and error of zlint that isn't excluded.
func lintRFC5280(der []byte, profile string) ([]string, error) {
	found, err := runZlint(der)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(found, func(fault string) bool {
		name, _, _ := strings.Cut(fault, ":")
		return slices.ContainsFunc(exclusions, func(e exclusion) bool {
			return e.lint == name && slices.Contains(e.profiles, profile)
		})
	}), nil
}

func runZlint(der []byte) ([]string, error) {
	registry, err := rfc5280()
	if err != nil {
		return nil, fmt.Errorf("couldn't load the RFC 5280 lints: %w", err)
	}
	cert, err := zx509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("zlint can't read the certificate: %w", err)
	}
	var found []string
	for name, result := range zlint.LintCertificateEx(cert, registry).Results {
		switch result.Status {
		case zlintlib.Warn, zlintlib.Error, zlintlib.Fatal:
			found = append(found, strings.TrimSuffix(name+": "+result.Details, ": "))
		}
	}
	slices.Sort(found)
	return found, nil
}
