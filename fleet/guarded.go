package fleet

import (
	"encoding/json"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// GuardRule changes, for the stations of a model, what their back end may not
// write. What the standard itself names stays guarded whatever Allow says.
type GuardRule struct {
	Vendor, Model string   // patterns with * and ?, as in the station's record, without case; empty: all
	Keys          []string // 1.6 keys and 2.x variables, patterns, such as *ServerURL or InternalCtrlr.*
	Transfers     []string // DataTransfer: VENDOR or VENDOR/MESSAGE, patterns
	Allow         []string // of either kind: let through
}

// Model names station models: patterns with * and ?, as in the station's
// record, without case; empty: all.
type Model struct{ Vendor, Model string }

// Fits says whether a vendor and a model are of those it names.
func (m Model) Fits(vendor, model string) bool {
	return (m.Vendor == "" || fits(dotted(m.Vendor), dotted(vendor))) && (m.Model == "" || fits(dotted(m.Model), dotted(model)))
}

// DefaultGuard are the names under which stations keep where they connect to
// and how they prove themselves beside the standard's own: EVerest's and
// MicroOcpp's configuration keys, and what others call the same things.
func DefaultGuard() []GuardRule {
	return []GuardRule{{Keys: []string{
		// another way to a back end
		"*CentralSystemUR?", "*CentralSystemAddress", "*CentralSystemHost*", "*BackendUR?", "*BackendAddress", "*BackendHost*",
		"*CSMSUR?", "*CSMSAddress", "*CSMSHost*", "*OCPPUR?", "*OCPPServer*", "*OCPPHost*", "*OCPPEndpoint*", "ServerUR?", "ServerAddress",
		"*NetworkConnectionProfiles", "*WebSocketUR?", "*ConnectionUR?", "*ProxyUR?", "*ProxyServer", "*ProxyHost",
		// another name or secret
		"*ChargePointId", "*ChargeBoxId", "*ChargeBoxIdentity", "*ChargePointIdentity", "*StationIdentity",
		"*AuthKey", "*AuthorizationKey*", "*BasicAuthPassword*", "*BasicAuthUser*", "*BackendPassword*", "*OCPPPassword*",
		// weaker TLS
		"*SecurityProfile*", "*SupportedCiphers*", "*CipherSuites*", "*TLSVersion*", "*TLSKeylog*", "*VerifyCSMS*", "*VerifyServer*",
		"*VerifyCertificate*", "*UseSslDefaultVerifyPaths", "*AllowCSMSTLSWildcards*", "*AllowSecurityProfileDowngrade*", "*AdditionalRootCertificateCheck*",
	}}}
}

// place is one setting that a message writes: a key (1.6) or a variable (2.x).
type place struct{ component, name, value string }

const (
	credentialReason = "a new credential would lock the station out: `bollard station password` changes it"
	profileReason    = "the security profile is raised with `bollard station profile` and never lowered"
	networkReason    = "another network profile could lead the station past the gateway"
)

// Longest wait between two tries to connect that a back end may set, in
// seconds: a longer one keeps the station away as well as a wrong password.
const maxBackOff = 24 * 60 * 60

// guarded says why a back end may not write a setting, or "". Names are compared
// by their letters and digits alone, without case: stations do as they like.
func (s *Service) guarded(sess Session, p place) string {
	adm := sess.Admission()
	if why, known := s.guardedByStandard(sess, &adm, p); known {
		return why
	}
	names := []string{bare(p.name), dotted(p.name), dotted(p.component) + "." + dotted(p.name)}
	matches := func(pattern string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return fits(dotted(pattern), name) })
	}
	rules := s.guardRules(adm.Station.Vendor, adm.Station.Model)
	for _, r := range rules {
		if slices.ContainsFunc(r.Allow, matches) {
			return ""
		}
	}
	for _, r := range rules {
		if slices.ContainsFunc(r.Keys, matches) {
			return "it is one of the settings with which stations are led elsewhere, renamed or weakened: guard in bollard.yaml can allow it for a model"
		}
	}
	if s.leadsElsewhere(p.value) {
		return "its value is the URL of another back end"
	}
	return ""
}

// guardedByStandard judges the settings the standard names; known is false for
// others. The password is checked at Bollard's door whoever answers certificate
// messages, and so is the profile: these hold in every security mode. The way
// up, the network and the organisation belong to Bollard only where it runs the
// upgrade.
func (s *Service) guardedByStandard(sess Session, adm *Admission, p place) (why string, known bool) {
	bollard := sess.Security() == SecurityBollard
	component, name := bare(p.component), bare(p.name)
	controller, network := component == "securityctrlr", component == "networkconfiguration"
	unless := func(harmless bool, reason string) (string, bool) {
		if harmless {
			return "", true
		}
		return reason, true
	}
	number := func() int {
		n, err := strconv.Atoi(strings.TrimSpace(p.value))
		if err != nil {
			return -1
		}
		return n
	}
	switch {
	case name == "authorizationkey", name == "basicauthpassword", name == "identity" && (controller || network):
		return credentialReason, true
	case name == "securityprofile":
		return unless(!bollard && number() >= lowestProfile(adm), profileReason)
	case name == "allowsecurityprofiledowngrade", name == "allowcsmstlswildcards", name == "additionalrootcertificatecheck":
		return "it decides how well the station checks who it connects to", true
	case name == "networkconfigurationpriority" && !bollard:
		return s.priorityFault(sess, p.value), true
	case name == "networkconfigurationpriority", network && bollard:
		return networkReason, true
	case name == "ocppcsmsurl":
		return unless(s.ownURL(p.value), networkReason)
	case network:
		return "", true
	case name == "cponame", name == "organizationname" && controller:
		return unless(!bollard || p.value == s.cfg.Organisation, "another organisation in the CSR would stop the station's renewals (A00.FR.404)")
	case slices.Contains([]string{"retrybackoffwaitminimum", "retrybackoffrandomrange", "retrybackoffrepeattimes"}, name):
		return unless(number() >= 0 && number() <= maxBackOff, "so long a wait between two tries to connect would keep the station away")
	case controller && (name == "certsigningwaitminimum" || name == "certsigningrepeattimes"):
		return "", true
	case controller && bollard:
		return "SecurityCtrlr is Bollard's to set", true
	}
	return "", false
}

// lowestProfile is what a session has shown the station to reach.
func lowestProfile(adm *Admission) int { return max(adm.Profile, adm.Station.FloorProfile) }

func (s *Service) guardRules(vendor, model string) []GuardRule {
	var list []GuardRule
	for _, r := range s.cfg.Guard {
		if (Model{r.Vendor, r.Model}).Fits(vendor, model) {
			list = append(list, r)
		}
	}
	return list
}

// ownURL says whether a station that is told this URL comes back to Bollard.
func (s *Service) ownURL(url string) bool {
	own := strings.TrimRight(s.cfg.PublicURL, "/")
	return own != "" && strings.EqualFold(strings.TrimRight(strings.TrimSpace(url), "/"), own)
}

// leadsElsewhere says whether a value holds a WebSocket URL that isn't
// Bollard's, be it within JSON within a string.
func (s *Service) leadsElsewhere(value string) bool {
	elsewhere := false
	eachText(value, func(text string) {
		folded := strings.ReplaceAll(fold(text), `\`, "")
		elsewhere = elsewhere || (strings.Contains(folded, "ws://") || strings.Contains(folded, "wss://")) && !s.ownURL(text)
	})
	return elsewhere
}

// maxNesting is how deep JSON within strings within JSON is looked into.
const maxNesting = 4

// eachText calls f with a text and, if it is JSON, with every key and string in
// it, however often one stands within the other.
func eachText(text string, f func(string)) { eachNested(text, maxNesting, f) }

func eachNested(text string, depth int, f func(string)) {
	f(text)
	trimmed := strings.TrimSpace(text)
	if depth == 0 || trimmed == "" || !strings.ContainsRune(`{["`, rune(trimmed[0])) {
		return
	}
	d := json.NewDecoder(strings.NewReader(trimmed))
	for {
		token, err := d.Token()
		if err != nil {
			return
		}
		if inner, ok := token.(string); ok {
			eachNested(inner, depth-1, f)
		}
	}
}

// fold lowers the case of a text and takes white space and what can't be seen out of it.
func fold(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return -1
		}
		return unicode.ToLower(unicode.ToUpper(r))
	}, text)
}

// bare is fold with nothing but letters and digits left.
func bare(text string) string { return only(text, "") }

// dotted is bare with the dots between a component and its variable, and what a
// pattern is made of.
func dotted(text string) string { return only(text, ".*?") }

func only(text, more string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(more, r) {
			return -1
		}
		return unicode.ToLower(unicode.ToUpper(r))
	}, text)
}

// fits matches a pattern with a text, neither of which has a slash.
func fits(pattern, text string) bool {
	ok, err := path.Match(pattern, text)
	return err == nil && ok
}
