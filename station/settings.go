package station

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// settings are the variables an operator can change. The station's mu guards them.
type settings struct {
	password       []byte
	organisation   string
	heartbeat      time.Duration
	ping           time.Duration // WebSocketPingInterval; 0: none
	signingWait    time.Duration
	signingRepeats int
	attempts       int
	backOff        BackOff
	meter          int // register of the energy meter, Wh
}

func newSettings(cfg Config) settings {
	return settings{
		password:       cfg.Password,
		organisation:   cfg.Organisation,
		signingWait:    cfg.SigningWait,
		signingRepeats: cfg.SigningRepeats,
		attempts:       cfg.Attempts,
		backOff:        cfg.BackOff,
		meter:          1000,
	}
}

func (s *Station) attempts() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set.attempts
}

func (s *Station) backOff() BackOff {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set.backOff
}

func (s *Station) meter() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set.meter
}

// seconds parses a duration variable.
func seconds(value string) (time.Duration, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is no number of seconds", value)
	}
	return time.Duration(n) * time.Second, nil
}

// count parses a counter variable.
func count(value string) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is no count", value)
	}
	return n, nil
}

// authorizationKey reads the hex form in which 1.6 carries a password of 16 to
// 20 bytes (white paper §2.3, OCPP-J 1.6 §6.2.2).
func authorizationKey(value string) ([]byte, error) {
	if len(value) < 32 || len(value) > 40 {
		return nil, errors.New("AuthorizationKey must have 32 to 40 hex digits")
	}
	key, err := hex.DecodeString(value)
	if err != nil {
		return nil, errors.New("AuthorizationKey is not hex")
	}
	return key, nil
}

// basicPassword reads the plain form of 2.x (A00.FR.205): 16 to 64 characters.
func basicPassword(value string) ([]byte, error) {
	if n := len([]rune(value)); n < 16 || n > 64 {
		return nil, errors.New("BasicAuthPassword must have 16 to 64 characters")
	}
	return []byte(value), nil
}

// variable is one setting as the CSMS sees it. A nil get is write-only, a nil
// set read-only; both run under the station's mu.
type variable struct {
	get func() string
	set func(value string) (after effect, err error)
}

// effect is what has to follow once the answer is out.
type effect uint8

const (
	nothing     effect = iota
	reconnect          // with new credentials
	newProfile         // 1.6: to the wanted security profile
	needsReboot        // nothing until the next Reset
)

func readOnly(get func() string) variable { return variable{get: get} }

func changing[T any](into *T, parse func(string) (T, error), format func(T) string) variable {
	return variable{
		get: func() string { return format(*into) },
		set: func(value string) (effect, error) {
			parsed, err := parse(value)
			if err != nil {
				return nothing, err
			}
			*into = parsed
			return nothing, nil
		},
	}
}

func inSeconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }

// organisation accepts what fits into a certificate's O (RFC 5280 appendix A.1, upper bound 64).
func organisation(value string) (string, error) {
	if value == "" || len(value) > 64 {
		return "", errors.New("an organisation has 1 to 64 characters")
	}
	return value, nil
}

// password is the write-only secret of either version.
func (s *Station) password(parse func(string) ([]byte, error)) variable {
	return variable{set: func(value string) (effect, error) {
		secret, err := parse(value)
		if err != nil {
			return nothing, err
		}
		s.set.password = secret
		if s.state.Profile == 3 {
			return nothing, nil
		}
		return reconnect, nil // A01 scenario: comes back with the new one
	}}
}

// common are the variables both versions have, by their own names.
func (s *Station) common() map[string]variable {
	return map[string]variable{
		"HeartbeatInterval":     changing(&s.set.heartbeat, seconds, inSeconds),
		"WebSocketPingInterval": changing(&s.set.ping, seconds, inSeconds),
		"AdditionalRootCertificateCheck": readOnly(func() string {
			return strconv.FormatBool(s.cfg.AdditionalRootCheck)
		}),
	}
}

// keys16 are the configuration keys of 1.6 (core profile and white paper §7).
func (s *Station) keys16() map[string]variable {
	keys := s.common()
	maps.Copy(keys, map[string]variable{
		"AuthorizationKey": s.password(authorizationKey),
		"CpoName":          changing(&s.set.organisation, organisation, strings.Clone),
		"SecurityProfile": {
			get: func() string { return strconv.Itoa(s.state.Profile) },
			set: s.raiseProfile,
		},
		"CertificateSignedMaxChainSize":  readOnly(func() string { return strconv.Itoa(s.cfg.MaxChainSize) }),
		"CertificateStoreMaxLength":      readOnly(func() string { return strconv.Itoa(2 * storeSize) }),
		"SupportedFileTransferProtocols": readOnly(func() string { return "HTTPS" }),
		"NumberOfConnectors":             readOnly(func() string { return "1" }),
		"SupportedFeatureProfiles":       readOnly(func() string { return "Core,RemoteTrigger" }),
	})
	return keys
}

// raiseProfile takes a higher security profile if everything it needs is there
// (A05.FR.01–.04 [1.6]); the station then reconnects with it (.05–.07).
func (s *Station) raiseProfile(value string) (effect, error) {
	profile, err := strconv.Atoi(value)
	if err != nil || profile > 3 {
		return nothing, fmt.Errorf("security profile %q is none of 1, 2, 3", value)
	}
	if profile <= s.state.Profile {
		return nothing, errors.New("security profile is not higher than the one in use")
	}
	if why := s.ready(profile, s.set.password); why != "" {
		return nothing, errors.New(why)
	}
	s.net.wanted = profile
	return newProfile, nil
}

// variables2 are the variables of the 2.x device model, named
// Component.Variable, with the instance in brackets.
func (s *Station) variables2() map[string]variable {
	common := s.common()
	vars := map[string]variable{
		"OCPPCommCtrlr.HeartbeatInterval":              common["HeartbeatInterval"],
		"OCPPCommCtrlr.WebSocketPingInterval":          common["WebSocketPingInterval"],
		"SecurityCtrlr.AdditionalRootCertificateCheck": common["AdditionalRootCertificateCheck"],

		"SecurityCtrlr.BasicAuthPassword": s.password(basicPassword),
		"SecurityCtrlr.Identity":          readOnly(func() string { return s.cfg.Identity }),
		"SecurityCtrlr.OrganizationName":  changing(&s.set.organisation, organisation, strings.Clone),
		"SecurityCtrlr.SecurityProfile":   readOnly(func() string { return strconv.Itoa(s.state.Profile) }),
		"SecurityCtrlr.CertificateEntries": readOnly(func() string {
			return strconv.Itoa(len(s.trust.list(csmsRoot)) + len(s.trust.list(manufacturerRoot)))
		}),
		"SecurityCtrlr.MaxCertificateChainSize": readOnly(func() string { return strconv.Itoa(s.cfg.MaxChainSize) }),
		"SecurityCtrlr.CertSigningWaitMinimum":  changing(&s.set.signingWait, seconds, inSeconds),
		"SecurityCtrlr.CertSigningRepeatTimes":  changing(&s.set.signingRepeats, count, strconv.Itoa),

		"OCPPCommCtrlr.NetworkConfigurationPriority": {get: s.formatPriority, set: s.setPriority},
		"OCPPCommCtrlr.ActiveNetworkProfile":         readOnly(func() string { return strconv.Itoa(s.net.active) }),
		"OCPPCommCtrlr.NetworkProfileConnectionAttempts": changing(&s.set.attempts, func(v string) (int, error) {
			n, err := count(v)
			if err == nil && n == 0 {
				err = errors.New("at least one attempt is needed")
			}
			return n, err
		}, strconv.Itoa),
		"OCPPCommCtrlr.RetryBackOffWaitMinimum": changing(&s.set.backOff.Minimum, seconds, inSeconds),
		"OCPPCommCtrlr.RetryBackOffRandomRange": changing(&s.set.backOff.Random, seconds, inSeconds),
		"OCPPCommCtrlr.RetryBackOffRepeatTimes": changing(&s.set.backOff.Repeats, count, strconv.Itoa),
		"OCPPCommCtrlr.FileTransferProtocols":   readOnly(func() string { return "HTTPS" }),
	}
	if s.cfg.AllowDowngrade {
		vars["SecurityCtrlr.AllowSecurityProfileDowngrade"] = readOnly(func() string { return "true" })
	}
	vars["OCPPCommCtrlr.MessageTimeout[Default]"] = readOnly(func() string { return inSeconds(s.cfg.CallTimeout) })
	return vars
}

// setPriority orders the network profiles; the order counts from the next boot
// (A05.FR.05), hence RebootRequired.
func (s *Station) setPriority(value string) (effect, error) {
	order, err := s.parsePriority(value)
	if err != nil {
		return nothing, err
	}
	s.net.priority = order
	return needsReboot, nil
}

// names returns the variables' names in order.
func names(vars map[string]variable) []string { return slices.Sorted(maps.Keys(vars)) }

// follow does what a changed variable calls for.
func (s *Station) follow(e effect) {
	switch e {
	case reconnect:
		s.drop("new password")
	case newProfile:
		s.drop("new security profile")
	case nothing, needsReboot:
	}
}
