package main

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/spf13/cobra"

	"bollard/admin"
	"bollard/firmware/campaign"
)

// planFlags are the options that say how a rollout goes: its beginning takes them, and so
// does the approval of that.
type planFlags struct {
	in                                                   admin.ReleaseRollout
	rings, limit, success, soak, patience, jitter, share string
}

func (p *planFlags) on(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&p.rings, "rings", ringText(campaign.Rings()), "names and cumulative shares of the stations")
	f.StringVar(&p.in.Lab, "lab", "lab", "group whose stations are the first ring")
	f.StringVar(&p.in.Group, "group", "", "only stations of this group")
	f.StringVar(&p.soak, "soak", "24h", "pause between rings")
	f.StringVar(&p.patience, "patience", "24h", "a station that isn't done after this has failed, once no update of it runs, and one that isn't there is waited for as long")
	f.StringVar(&p.jitter, "jitter", "10m", "time over which downloads are spread")
	f.IntVar(&p.in.Rules.PerMinute, "per-minute", 60, "stations that begin in a minute")
	f.IntVar(&p.in.Rules.PerSite, "per-site", 1, "stations of one site at work at once; 0: no limit")
	f.StringVar(&p.share, "site-share", "50%", "share of a site's stations that may be at work at once, but one always may; 100%: no limit")
	f.StringVar(&p.limit, "fail-limit", "2%", "share of a ring that may fail")
	f.IntVar(&p.in.Rules.Sample, "sample", 0, "stations of a ring that must have come to an end before the next, however long that takes")
	f.StringVar(&p.success, "success", "99%", "share of a ring that must be shown to succeed (lower end of its 95% interval); a ring too small to show it must have no failure")
}

// given says whether any of them was given.
func (p *planFlags) given() bool {
	var none planFlags
	none.on(&cobra.Command{})
	return !reflect.DeepEqual(*p, none)
}

// read makes a plan of the options.
func (p *planFlags) read() (admin.ReleaseRollout, error) {
	in := p.in
	if err := p.readInto(&in); err != nil {
		return in, admin.Usagef("`bollard firmware rollout --help` shows how it is given", "%w", err)
	}
	return in, nil
}

func (p *planFlags) readInto(in *admin.ReleaseRollout) error {
	for one := range strings.SplitSeq(p.rings, ",") {
		name, text, _ := strings.Cut(one, "=")
		share, err := percent(text)
		if err != nil {
			return fmt.Errorf("--rings: %q: %w", one, err)
		}
		in.Rings = append(in.Rings, campaign.Ring{Name: strings.TrimSpace(name), Share: share})
	}
	if err := readRules(&in.Rules, "100%", p.limit, p.success, "0", p.soak, p.patience); err != nil {
		return err
	}
	d, err := span(p.jitter)
	if err != nil {
		return fmt.Errorf("--jitter: %w", err)
	}
	in.Jitter = *d
	if in.SiteShare, err = percent(p.share); err != nil {
		return fmt.Errorf("--site-share: %w", err)
	}
	return nil
}
