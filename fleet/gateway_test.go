package fleet_test

import (
	"bollard/fleet"
	"bollard/gateway"
)

// The gateway's door and guard are this service.
var (
	_ gateway.Door  = (*fleet.Service)(nil)
	_ gateway.Guard = (*fleet.Service)(nil)
)
