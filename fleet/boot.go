package fleet

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"bollard/detect"
	"bollard/ledger"
	"bollard/ocpp"
)

// boot compares the serial number in a BootNotification with the registered one
// (B01.FR.11 and .12; done in 1.6 and on lower profiles too, where the serial is
// given). The promise is that certificate, serial and identity agree or the
// session ends.
func (s *Service) boot(ctx context.Context, sess Session, m Message) (Verdict, error) {
	adm := sess.Admission()
	serials, vendor, model, firmware, err := bootFacts(sess.Version(), m.Payload)
	if err != nil {
		return Verdict{}, err
	}
	if reason := bootSerialReason(sess.Version(), &adm, serials); reason != "" {
		st, err := s.store.Station(ctx, adm.Station.Key())
		if err != nil || !slices.Contains(st.Warn, CheckBootSerial) {
			s.noticed(sess, detect.BootMismatch, "")
			s.refusals.add(adm.Station.Key(), "BootNotification doesn't name the registered serial number (B01.FR.11)", s.clock())
			return Verdict{Act: End, Reason: reason}, nil //nolint:nilerr // unknown whether it is set to warn: the check holds
		}
		s.warned(ctx, keyOf(&st), CheckBootSerial, reason)
	}
	if l := s.liveOf(sess); l != nil {
		l.bootSent()
		l.aside("boot", func(ctx context.Context) {
			if adm.Station.Vendor == "" && printable(vendor, maxText) || adm.Station.Model == "" && printable(model, maxText) {
				s.learnModel(ctx, sess, vendor, model)
			}
			s.bootedWith(ctx, sess, firmware)
		})
	}
	return Verdict{Act: Pass, Watch: true}, nil
}

func bootFacts(v ocpp.Version, payload []byte) (serials []string, vendor, model, firmware string, err error) {
	if v == ocpp.V16 {
		var boot ocpp.BootNotificationRequest16
		if err := ocpp.DecodeStrict(payload, &boot); err != nil {
			return nil, "", "", "", err
		}
		for _, serial := range []string{boot.ChargePointSerialNumber, boot.ChargeBoxSerialNumber} {
			if serial != "" {
				serials = append(serials, serial)
			}
		}
		return serials, boot.ChargePointVendor, boot.ChargePointModel, boot.FirmwareVersion, nil
	}
	var boot ocpp.BootNotificationRequest
	if err := ocpp.DecodeStrict(payload, &boot); err != nil {
		return nil, "", "", "", err
	}
	if boot.ChargingStation.SerialNumber != "" {
		serials = []string{boot.ChargingStation.SerialNumber}
	}
	return serials, boot.ChargingStation.VendorName, boot.ChargingStation.Model, boot.ChargingStation.FirmwareVersion, nil
}

// bootSerialReason: the serial number is optional in every version's schema.
// On profile 3 of 2.x B01.FR.11 demands the comparison, so there its absence is
// a mismatch; elsewhere there is nothing to compare. 1.6 has two fields which
// stations fill as they like: one that agrees suffices.
func bootSerialReason(v ocpp.Version, adm *Admission, serials []string) string {
	if len(serials) == 0 {
		if v != ocpp.V16 && adm.Profile == 3 {
			return "BootNotification has no serial number to compare with the certificate's (B01.FR.11)"
		}
		return ""
	}
	for _, serial := range serials {
		if serial == adm.Station.Serial || slices.Contains(adm.Station.Aliases, serial) {
			return ""
		}
	}
	return fmt.Sprintf("BootNotification's serial number %.64q is not the registered %q (B01.FR.11)", serials[0], adm.Station.Serial)
}

// learnModel fills in what the operator left open. It never overwrites: back
// ends are chosen by vendor and model.
func (s *Service) learnModel(ctx context.Context, sess Session, vendor, model string) {
	adm := sess.Admission()
	key := adm.Station.Key()
	st, err := s.store.Station(ctx, key)
	if err != nil || st.Vendor != "" && st.Model != "" {
		return
	}
	_, err = s.store.UpdateStation(ctx, key, func(st *Station) ([]ledger.Event, error) {
		if st.Vendor == "" && printable(vendor, maxText) {
			st.Vendor = vendor
		}
		if st.Model == "" && printable(model, maxText) {
			st.Model = model
		}
		return nil, nil
	})
	if err != nil && ctx.Err() == nil {
		s.log.Warn("couldn't record a station's model", slog.String("station", key), slog.Any("err", err))
	}
}

// Records of one check of one station that only warns: a serial number is the station's
// own text, and another one each time would be an entry each time.
const (
	warnBurst  = 10
	warnRefill = 1.0 / 3600
)

// warned records a failed check that is set to warn, once per reason in a row.
func (s *Service) warned(ctx context.Context, key string, check Check, reason string) {
	mark, kind := string(check)+": "+reason, key+"\x00"+string(check)
	if s.notedBefore(kind, mark) {
		return
	}
	if !s.mayWarn(kind) {
		s.mu.Lock()
		delete(s.noted, kind) // that reason isn't on record
		s.mu.Unlock()
		return
	}
	s.log.Warn("station check failed, set to warn", slog.String("station", key), slog.String("reason", fact(mark)))
	err := s.record(ctx, ledger.Event{Kind: "check.warned", Subject: key, Actor: "station:" + key, Data: map[string]string{"notes": fact(mark)}})
	if err != nil {
		s.log.Warn("couldn't record a failed check", slog.String("station", key), slog.Any("err", err))
	}
}

// mayWarn takes from the budget of a check's records.
func (s *Service) mayWarn(kind string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	if s.warnings.left(kind, now) < 1 {
		return false
	}
	s.warnings.take(kind, now)
	return true
}

// notedBefore notes a text under a key and says whether it was the last one.
func (s *Service) notedBefore(key, text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.noted[key] == text
	s.noted[key] = text
	return known
}
