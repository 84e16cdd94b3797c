package ocpp

// GetLog asks a station to upload a log (N01).
const (
	ActionGetLog           = "GetLog"
	LogTypeSecurity        = "SecurityLog"
	LogTypeDiagnostics     = "DiagnosticsLog"
	StatusAcceptedCanceled = "AcceptedCanceled"
)

// ActionGetDiagnostics asks a station of 1.6 for what GetLog asks for elsewhere.
const ActionGetDiagnostics = "GetDiagnostics"

// GetDiagnosticsRequest says where a file goes, as far as Bollard looks.
type GetDiagnosticsRequest struct {
	Location string `json:"location"` // a folder, to which stations may append a name
}

// GetLogRequest of all versions; in 1.6 it is the security white paper's.
type GetLogRequest struct {
	LogType       string        `json:"logType"`
	RequestID     int           `json:"requestId"`
	Log           LogParameters `json:"log"`
	Retries       *int          `json:"retries,omitempty"`       // after the first; none: the station decides
	RetryInterval *int          `json:"retryInterval,omitempty"` // seconds
}

// LogParameters say where a log goes.
type LogParameters struct {
	RemoteLocation  string `json:"remoteLocation"` // at most 512 characters
	OldestTimestamp string `json:"oldestTimestamp,omitempty"`
	LatestTimestamp string `json:"latestTimestamp,omitempty"`
}
