package ws

import (
	"errors"
	"net/http"
	"strings"
)

const deflate = "permessage-deflate"

// errUnasked ends a handshake whose server chose an extension that it wasn't offered
// (RFC 6455 §4.1): its frames couldn't be read.
var errUnasked = errors.New("it chose an extension that was not offered")

// offersDeflate reports whether a handshake has an offer of permessage-deflate that can
// be taken as gorilla takes each: without context takeover, and with any window. Who
// asks for a smaller one has no room for more, and who names what isn't known means
// something else: such offers are declined (RFC 7692 §7, §7.1.2.1).
func offersDeflate(h http.Header) bool {
	for name, parameters := range extensions(h) {
		if name == deflate && takes(parameters) {
			return true
		}
	}
	return false
}

func takes(parameters []string) bool {
	seen := map[string]bool{}
	for _, p := range parameters {
		name, value, valued := strings.Cut(p, "=")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.Trim(strings.TrimSpace(value), `"`)
		known := false
		switch name {
		case "server_no_context_takeover", "client_no_context_takeover":
			known = !valued
		case "client_max_window_bits": // how much the client may use; saying nothing lets it (§7.1.2.2)
			known = !valued || value == "8" || value == "9" || len(value) == 2 && value >= "10" && value <= "15"
		}
		if !known || seen[name] {
			return false
		}
		seen[name] = true
	}
	return true
}

// chosenOnly reports whether a server's answer names no extension but
// permessage-deflate, and that only if it was offered.
func chosenOnly(h http.Header, offered bool) bool {
	for name := range extensions(h) {
		if !offered || name != deflate {
			return false
		}
	}
	return true
}

// extensions yields each element of Sec-WebSocket-Extensions (RFC 6455 §9.1). No
// parameter that is known here has a comma or a semicolon in it.
func extensions(h http.Header) func(yield func(name string, parameters []string) bool) {
	return func(yield func(string, []string) bool) {
		for _, line := range h.Values("Sec-Websocket-Extensions") {
			for element := range strings.SplitSeq(line, ",") {
				parts := strings.Split(element, ";")
				if name := strings.TrimSpace(parts[0]); name != "" && !yield(name, parts[1:]) {
					return
				}
			}
		}
	}
}
