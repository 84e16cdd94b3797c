package ca

import (
	"errors"
	"net/netip"
	"strings"
)

// CheckSerialNumber tells why a station's serial number can't be the CN of its
// certificate; nil if it can.
func CheckSerialNumber(serial string) error {
	if err := checkText("serial number", serial); err != nil {
		return err
	}
	if looksLikeHost(serial) {
		return errors.New("the serial number looks like a URL, host name or IP address (A00.FR.511)")
	}
	return nil
}

// looksLikeHost tells whether a name could be taken for a server's: a station
// certificate must never pass a host name check (A00.FR.511).
func looksLikeHost(name string) bool {
	if strings.Contains(name, "://") || strings.HasPrefix(name, "*.") || strings.EqualFold(name, "localhost") {
		return true
	}
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return true
	}
	if _, err := netip.ParseAddrPort(name); err == nil {
		return true
	}
	// host.tld: a last label with a letter first. Serial numbers such as
	// "2024.0117" or "CS-1.4" have a digit there.
	name = strings.TrimSuffix(name, ".")
	dot := strings.LastIndexByte(name, '.')
	if dot < 1 || dot == len(name)-1 {
		return false
	}
	c := name[dot+1]
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// isHostName holds RFC 1123's letters, digits and hyphens and RFC 1035's lengths.
func isHostName(name string) bool {
	if len(name) == 0 || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-') {
				return false
			}
		}
	}
	return true
}
