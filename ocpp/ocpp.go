// Package ocpp reads and writes OCPP-J: frames, identities, versions, error
// codes, and the few typed messages Bollard itself acts on.
//
// It promises that a frame is judged exactly as a conforming JSON decoder
// would read it, or refused. It is pure: no network, no clock, no state.
//
// Sources: OCPP-J 1.6 §3–5, OCPP 2.0.1 part 4 §3–6, OCPP 2.1 part 4 §3–7.
package ocpp

// Version is an OCPP version that stations and back ends negotiate as a
// WebSocket subprotocol.
type Version uint8

// The versions Bollard mediates. The zero Version means "none negotiated".
const (
	V16 Version = iota + 1
	V201
	V21
)

// Direction says which way a frame travels.
type Direction uint8

// FromStation frames travel to the CSMS, FromCSMS frames to the station.
const (
	FromStation Direction = iota + 1
	FromCSMS
)

// String returns the direction in words, for logs and metrics.
func (d Direction) String() string {
	if d == FromStation {
		return "from-station"
	}
	return "from-csms"
}

var subprotocols = [...]string{V16: "ocpp1.6", V201: "ocpp2.0.1", V21: "ocpp2.1"}

// Subprotocol returns the WebSocket subprotocol name, such as "ocpp2.0.1"
// (OCPP 2.1 part 4 §3.1.2), or "" for the zero Version.
func (v Version) Subprotocol() string {
	if int(v) < len(subprotocols) {
		return subprotocols[v]
	}
	return ""
}

// String returns the bare version number, such as "2.0.1".
func (v Version) String() string {
	if name := v.Subprotocol(); name != "" {
		return name[len("ocpp"):]
	}
	return "none"
}

// ParseSubprotocol is the reverse of Subprotocol. "ocpp2.0", a withdrawn
// predecessor of 2.0.1, is not a version Bollard knows.
func ParseSubprotocol(name string) (Version, bool) {
	for v, s := range subprotocols {
		if s != "" && s == name {
			return Version(v), true
		}
	}
	return 0, false
}
