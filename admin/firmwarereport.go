package admin

import (
	"context"
	"errors"
	"time"

	"bollard/firmware/bundle"
	"bollard/firmware/catalogue"
	"bollard/firmware/inventory"
)

// ReportFirmware asks which stations run less than a release, or a part below a
// version, or what a report about a vulnerability can say.
type ReportFirmware struct {
	Below  string          `json:"below,omitempty"`  // a release
	Part   string          `json:"part,omitempty"`   // of bills of materials, by name or package URL
	Before string          `json:"before,omitempty"` // version of it
	CVE    string          `json:"cve,omitempty"`
	Stage  inventory.Stage `json:"stage,omitempty"`
	Aware  time.Time       `json:"aware,omitzero"` // when it became known; zero: now
}

// FirmwareReport is one of the two.
type FirmwareReport struct {
	Answer        *inventory.Answer `json:"answer,omitempty"`
	Vulnerability *inventory.Report `json:"vulnerability,omitempty"`
}

func (o *operations) firmwareReport(ctx context.Context, in ReportFirmware) (FirmwareReport, error) {
	if (in.Part == "") != (in.Before == "") || in.Below != "" && in.Part+in.CVE != "" || in.Below+in.Part+in.CVE == "" {
		return FirmwareReport{}, Usagef("--below RELEASE, --part NAME --before VERSION, or --cve CVE, with or without a part", "give a release, or a part and a version, or a vulnerability")
	}
	if in.CVE != "" && in.Aware.After(o.cfg.Clock()) {
		return FirmwareReport{}, Usagef("what is due counts from when it became known", "--aware %s is in the future", in.Aware.UTC().Format(time.RFC3339))
	}
	list, err := o.cfg.Releases.List(ctx)
	if err != nil {
		return FirmwareReport{}, err
	}
	stations, err := o.inventory(ctx)
	if err != nil {
		return FirmwareReport{}, err
	}
	var out FirmwareReport
	if in.Below != "" {
		e, err := o.cfg.Releases.Find(ctx, in.Below)
		if err != nil {
			return FirmwareReport{}, err
		}
		a := inventory.BelowRelease(stations, list, e.Release)
		return FirmwareReport{Answer: &a}, nil
	}
	if in.Part != "" {
		parts, err := o.parts(ctx, list)
		if err != nil {
			return FirmwareReport{}, err
		}
		a := inventory.BelowPart(stations, list, parts, in.Part, in.Before)
		out.Answer = &a
	}
	if in.CVE == "" {
		return out, nil
	}
	if in.Aware.IsZero() {
		in.Aware = o.cfg.Clock()
	}
	r, err := inventory.Vulnerability(stations, list, in.CVE, in.Stage, in.Aware, out.Answer)
	if err != nil {
		return FirmwareReport{}, Usagef("", "%w", err)
	}
	return FirmwareReport{Vulnerability: &r}, nil
}

// inventory is every station with what its newest boot showed.
func (o *operations) inventory(ctx context.Context) ([]inventory.Station, error) {
	list, err := o.cfg.Store.Stations(ctx)
	if err != nil {
		return nil, err
	}
	plans, err := o.cfg.Store.Plans(ctx)
	if err != nil {
		return nil, err
	}
	unverified, err := o.cfg.Updates.Unverified(ctx)
	if err != nil {
		return nil, err
	}
	type given struct{ station, version string }
	plain := map[given]bool{}
	for _, j := range unverified {
		plain[given{j.Station, j.Version}] = true
	}
	out := make([]inventory.Station, len(list))
	for i, s := range list {
		version := plans[stationKey(s.Identity)].Firmware
		out[i] = inventory.Station{ID: s.Identity, Vendor: s.Vendor, Model: s.Model, Version: version, Unverified: version != "" && plain[given{stationKey(s.Identity), version}]}
	}
	return out, nil
}

// parts are the bills of materials of all releases that have one.
func (o *operations) parts(ctx context.Context, list []catalogue.Entry) (inventory.Parts, error) {
	all := inventory.Parts{}
	for _, e := range list {
		if e.Release.SBOM == "" {
			continue
		}
		text, err := o.cfg.Releases.Paper(ctx, e.Release.ID, bundle.FileSBOM)
		if errors.Is(err, catalogue.ErrUnknown) { // taken in before bills were kept
			continue
		}
		if err != nil {
			return nil, err
		}
		if all[e.Release.ID], err = bundle.Parts(text); err != nil {
			return nil, err
		}
	}
	return all, nil
}
