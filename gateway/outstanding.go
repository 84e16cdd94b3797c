package gateway

import (
	"time"
)

// outstanding are the station's CALLs that the back end has not answered yet.
// A frame from the back end is handed on as an answer only if it matches one.
// A station may repeat a CALL with the same id (OCPP 2.0.1 errata §4.6), so
// ids may stand here more than once; answers match in order.
type outstanding struct {
	bound   int
	timeout time.Duration
	calls   []asked
	kept    int // bytes of the watched CALLs, whose frames are kept for their answers
}

// maxKept bounds them, so that 64 large BootNotifications don't cost 64 MiB. One
// larger than that has its place alone.
const maxKept = 256 << 10

type asked struct {
	id    string
	at    time.Time
	watch *watch
}

func (a *asked) size() int {
	if a.watch == nil || a.watch.call == nil {
		return 0
	}
	return len(a.watch.call.Head.Payload)
}

func (o *outstanding) full(size int) bool {
	return len(o.calls) >= o.bound || size > 0 && o.kept > 0 && o.kept+size > maxKept
}

// add reports false when there is no room. Only then are CALLs older than the
// timeout forgotten, so that a slow back end costs no answer without need.
func (o *outstanding) add(a asked) bool {
	if o.full(a.size()) {
		for len(o.calls) > 0 && a.at.Sub(o.calls[0].at) >= o.timeout {
			o.remove(0)
		}
		if o.full(a.size()) {
			return false
		}
	}
	o.calls = append(o.calls, a)
	o.kept += a.size()
	return true
}

// patience is how long add will go on refusing a if no answer comes.
func (o *outstanding) patience(a asked, now time.Time) time.Duration {
	if !o.full(a.size()) {
		return 0
	}
	return o.timeout - now.Sub(o.calls[0].at)
}

// take removes the oldest CALL with this id.
func (o *outstanding) take(id []byte) (asked, bool) {
	for i := range o.calls {
		if o.calls[i].id == string(id) {
			a := o.calls[i]
			o.remove(i)
			return a, true
		}
	}
	return asked{}, false
}

func (o *outstanding) remove(i int) {
	o.kept -= o.calls[i].size()
	copy(o.calls[i:], o.calls[i+1:])
	o.calls[len(o.calls)-1] = asked{}
	o.calls = o.calls[:len(o.calls)-1]
}
