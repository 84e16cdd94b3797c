package main

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
)

// request is message n of a station: OCPP 1.6 frames of 30 bytes to 2 KB, of
// eight two Heartbeats, two StatusNotifications and four MeterValues.
func request(dst []byte, station, n int) []byte {
	dst = append(dst[:0], `[2,"`...)
	dst = fmt.Appendf(dst, "%d-%d", station, n)
	switch n % 8 {
	case 0, 4:
		return append(dst, `","Heartbeat",{}]`...)
	case 2, 6:
		return fmt.Appendf(dst, `","StatusNotification",{"connectorId":%d,"errorCode":"NoError","status":"Charging","timestamp":"2026-01-01T00:00:00.%03dZ"}]`, station%4+1, n%1000)
	}
	dst = fmt.Appendf(dst, `","MeterValues",{"connectorId":1,"transactionId":%d,"meterValue":[{"timestamp":"2026-01-01T00:00:00Z","sampledValue":[`, station)
	for i := range n%8*3 + 1 {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = fmt.Appendf(dst, `{"value":"%d","measurand":"Current.Import","phase":"L%d","unit":"A"}`, n+i, i%3+1)
	}
	return append(dst, `]}]}]`...)
}

// mix is what stations send instead; the zero value is the fleet above.
type mix struct {
	Bytes     int `json:"bytes,omitempty"`     // of every message
	Inspected int `json:"inspected,omitempty"` // of a hundred: the gateway reads their payload
}

// smallest is the size below which a message is a Heartbeat.
const smallest = 100

// request is message n of a station.
func (m mix) request(dst []byte, station, n int) []byte {
	if m == (mix{}) {
		return request(dst, station, n)
	}
	pad, end := byte('x'), `"}]`
	dst = fmt.Appendf(dst[:0], `[2,"%d-%d","`, station, n)
	switch {
	case m.Bytes < smallest:
		dst = append(dst, `Heartbeat",{`...)
		pad, end = ' ', `}]`
	case n*37%100 < m.Inspected: // spread over the hundred
		dst = append(dst, `DataTransfer",{"vendorId":"bench","data":"`...)
	default:
		dst = append(dst, `MeterValues",{"vendorId":"bench","data":"`...)
	}
	for len(dst)+len(end) < m.Bytes {
		dst = append(dst, pad)
	}
	return append(dst, end...)
}

// response is the answer the back end must give to exactly this request: it
// holds length and checksum of what arrived, so that a wrong byte on either way
// is seen by the station.
func response(dst, request []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(request, []byte(`[2,"`))
	id, _, closed := bytes.Cut(rest, []byte{'"'})
	if !ok || !closed {
		return nil, errors.New("not a CALL")
	}
	return fmt.Appendf(dst[:0], `[3,"%s",{"currentTime":"2026-01-01T00:00:00Z","bytes":%d,"crc":"%08x"}]`, id, len(request), crc32.ChecksumIEEE(request)), nil
}

// isCall tells a CALL from an answer.
func isCall(frame []byte) bool { return bytes.HasPrefix(frame, []byte("[2,")) }

// callID returns the id of a compactly written frame.
func callID(frame []byte) string {
	parts := strings.SplitN(string(frame), `"`, 3)
	if len(parts) < 3 {
		return ""
	}
	return parts[1]
}
