package safehttp

import "strings"

// Rule is what a request broke, for metrics, logs and tests.
type Rule string

// The rules, in the order they are tried.
const (
	RuleForm     Rule = "form"     // not a plain absolute URL
	RuleScheme   Rule = "scheme"   // not a listed scheme
	RuleUser     Rule = "userinfo" // credentials in the URL
	RuleFragment Rule = "fragment"
	RuleHost     Rule = "host"     // no host name or address as such
	RuleAllow    Rule = "allow"    // not on the allow-list
	RulePort     Rule = "port"     // not a listed port
	RuleResolve  Rule = "resolve"  // the name has no address
	RuleAddress  Rule = "address"  // an address that isn't public
	RuleConnect  Rule = "connect"  // nobody answers there
	RuleTLS      Rule = "tls"      // not in TLS 1.2 or 1.3 with a trusted certificate
	RuleHTTP     Rule = "http"     // not an HTTP answer
	RuleRedirect Rule = "redirect" // one that isn't followed
	RuleEncoding Rule = "encoding" // a compressed answer, though none was asked for
	RuleRange    Rule = "range"    // a part that wasn't asked for
	RuleSize     Rule = "size"
	RuleTime     Rule = "time"
)

// Error refuses or fails a request. Its text names the rule and where the URL
// points, never its path, query or credentials: those may be secrets.
type Error struct {
	Rule   Rule
	Where  string // scheme://host:port, "" if the URL has none to speak of
	Reason string
	Err    error // the cause, or nil; its text may quote the peer
}

func (e *Error) Error() string {
	where := ""
	if e.Where != "" {
		where = " from " + e.Where
	}
	text := "couldn't fetch" + where + ": " + e.Reason + " (rule " + string(e.Rule) + ")"
	if e.Err != nil {
		text += ": " + printable(e.Err.Error())
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

// maxCause bounds a cause's text: TLS and HTTP errors quote what the peer sent.
const maxCause = 200

// printable makes a peer's words fit for a log line.
func printable(text string) string {
	if len(text) > maxCause {
		text = text[:maxCause] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return '?'
		}
		return r
	}, text)
}

func refuse(rule Rule, where, reason string) *Error {
	return &Error{Rule: rule, Where: where, Reason: reason}
}
