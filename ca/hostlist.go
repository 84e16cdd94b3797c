package ca

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// maxHostName is ub-common-name (RFC 5280 appendix A.1): a name stands in CN, too.
const maxHostName = 64

// HostName is a host name as doors for servers compare and certify it; IDNs are A-labels.
func HostName(name string) (string, error) {
	name = strings.ToLower(name)
	_, notAddress := netip.ParseAddr(name)
	switch {
	case name == "" || len(name) > maxHostName:
		return "", fmt.Errorf("it has to have 1 to %d characters", maxHostName)
	case notAddress == nil:
		return "", errors.New("it is an address")
	case !isHostName(name):
		return "", errors.New("it has to be letters, digits and hyphens between dots")
	}
	if last := name[strings.LastIndexByte(name, '.')+1:]; strings.Trim(last, "0123456789") == "" {
		return "", errors.New("its last part is a number")
	}
	return name, nil
}

// AllowHost reads an entry of an allow-list: a name, or *.example.com for everything
// below one.
func AllowHost(entry string) (string, error) {
	bare, below := strings.CutPrefix(entry, "*.")
	name, err := HostName(bare)
	if below {
		name = "*." + name
	}
	return name, err
}

// HostListed says whether a list that AllowHost read has a name.
func HostListed(list []string, name string) bool {
	return slices.ContainsFunc(list, func(entry string) bool {
		if above, ok := strings.CutPrefix(entry, "*"); ok {
			return strings.HasSuffix(name, above) && len(name) > len(above)
		}
		return entry == name
	})
}
