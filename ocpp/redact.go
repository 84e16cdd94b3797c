package ocpp

import "strconv"

// The messages below may hold secrets or personal data, so they print as what
// they are, not as what they say; encoding/json alone writes them whole, for the
// wire. DESIGN's promise 14 would else hang on every %v.

func (ChangeConfigurationRequest16) String() string   { return "[ChangeConfiguration]" }
func (ChangeConfigurationRequest16) GoString() string { return "[ChangeConfiguration]" }
func (ConfigurationKey16) String() string             { return "[configuration key]" }
func (ConfigurationKey16) GoString() string           { return "[configuration key]" }
func (SetVariable) String() string                    { return "[SetVariable]" }
func (SetVariable) GoString() string                  { return "[SetVariable]" }
func (GetVariableResult) String() string              { return "[variable]" }
func (GetVariableResult) GoString() string            { return "[variable]" }
func (SecurityEventRequest) String() string           { return "[SecurityEventNotification]" }
func (SecurityEventRequest) GoString() string         { return "[SecurityEventNotification]" }
func (DataTransferRequest) String() string            { return "[DataTransfer]" }
func (DataTransferRequest) GoString() string          { return "[DataTransfer]" }
func (DataTransferResponse) String() string           { return "[DataTransfer answer]" }
func (DataTransferResponse) GoString() string         { return "[DataTransfer answer]" }
func (GetLogRequest) String() string                  { return "[GetLog]" } // its URL is a ticket
func (GetLogRequest) GoString() string                { return "[GetLog]" }

// String names the frame by its type and size.
func (h Head) String() string {
	return "[frame of type " + strconv.Itoa(int(h.Type)) + ", " + strconv.Itoa(len(h.Payload)) + " bytes]"
}

// GoString is String, for %#v.
func (h Head) GoString() string { return h.String() }
