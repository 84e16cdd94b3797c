package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"time"

	"bollard/admin"
	"bollard/fleet"
	"bollard/internal/rollout"
	"bollard/iso15118/message"
)

// decision is a command that changes something.
type decision struct {
	op   string
	kind string // of the entry that records it
	// with prepares what the command is about, anew for each try.
	with func(*faulty, string) any
	// once: there is one such thing; a try goes on where the one before was cut off.
	once bool
	// alone: its effect isn't in the database, or it has none but the entry.
	alone bool
	// uncut: it leaves a key, too, with which it isn't begun again.
	uncut bool
	// plans: it may forget what was tried of a station's plan beside its decision.
	plans bool
}

func decisions() []decision {
	station := func(f *faulty, id string) any { return admin.StationRef{Identity: f.station(id, 2)} }
	certified := func(f *faulty, id string) string {
		f.certificate(f.station(id, 2))
		return id
	}
	running := func(f *faulty, id string) string {
		f.call("station.group", admin.StationGroup{Identity: f.station(id, 2), Group: &id}, nil)
		f.seen(id)
		f.call("fleet.want", admin.Want{Group: id, Profile: ptr(3)}, nil)
		var r admin.Rollout
		f.call("fleet.run", admin.FleetRun{FleetScope: admin.FleetScope{Group: id}, Rules: rollout.Rules{Waves: []float64{1}, Patience: time.Hour, PerMinute: 60}}, &r)
		return r.ID
	}
	asked := func(f *faulty, id string) admin.Approval {
		var m admin.Approval
		f.call("approval.request", admin.AskApproval{Action: fleet.ActionDowngrade, Name: f.station(id, 3), Reason: "x"}, &m)
		return m
	}
	signed := func(f *faulty, id string) {
		m := asked(f, id)
		f.call("approval.sign", admin.SignApproval{ID: m.Nonce, Signature: f.sign(m.Statement)}, nil)
	}
	signedRelease := func(f *faulty, id string) (admin.AddRelease, string) {
		dir, r := f.maker.release(f.t, id, uint64(f.n), []byte(id))
		return admin.AddRelease{Folder: dir}, r.ID
	}
	added := func(f *faulty, id string) string {
		in, release := signedRelease(f, id)
		f.call("firmware.add", in, nil)
		return release
	}
	agreed := func(f *faulty, id string) string {
		in := admin.ApproveRelease{Release: added(f, id), Reason: "x"}
		var m admin.Approval
		f.call("firmware.approve", in, &m)
		in.Signature = f.sign(m.Statement)
		f.call("firmware.approve", in, nil)
		return in.Release
	}
	published := func(f *faulty, id string) string {
		release := agreed(f, id)
		f.call("firmware.publish", admin.ReleaseRef{Release: release}, nil)
		return release
	}
	// rolling is a release whose rollout to one station has begun.
	rolling := func(f *faulty, id string) string {
		release := f.startable(published(f, id), id)
		f.call("firmware.rollout", f.rollout(release, id), nil)
		return release
	}
	contracted := func(f *faulty, _ string) admin.AddContract {
		in := f.contract()
		f.call("contract.add", in, nil)
		return in
	}
	return []decision{
		{op: "firmware.rollout", kind: "firmware.rollout-started", with: func(f *faulty, id string) any {
			return f.rollout(f.startable(published(f, id), id), id)
		}},
		{op: "firmware.halt", kind: "firmware.halted", with: func(f *faulty, id string) any {
			return admin.RolloutDecision{Release: rolling(f, id), Reason: "x"}
		}},
		{op: "firmware.resume", kind: "firmware.rolling", with: func(f *faulty, id string) any {
			in := admin.RolloutDecision{Release: rolling(f, id), Reason: "x"}
			f.call("firmware.halt", in, nil)
			f.approve(admin.ApproveRelease{Release: in.Release, Action: "firmware.resume", Reason: "x"})
			return in
		}},
		{op: "contract.add", kind: "contract.added", with: func(f *faulty, _ string) any { return f.contract() }},
		{op: "contract.revoke", kind: "contract.cancelled", with: func(f *faulty, id string) any {
			return admin.ContractRef{EMAID: contracted(f, id).EMAID}
		}},
		{op: "contract.provision", kind: "contract.refused", alone: true, with: func(f *faulty, _ string) any {
			return admin.Provision{Schema: message.ISO2.Namespace(), EXI: f.stranger()}
		}},
		{op: "tariff.sign", kind: "tariff.signed", alone: true, with: func(f *faulty, _ string) any { return f.tariff() }},
		{op: "pool.token.add", kind: "pool.token-added", with: func(_ *faulty, id string) any {
			return admin.AddPoolToken{Name: id, Role: "cpo"}
		}},
		{op: "pool.token.revoke", kind: "pool.token-revoked", with: func(f *faulty, id string) any {
			f.call("pool.token.add", admin.AddPoolToken{Name: id, Role: "cpo"}, nil)
			return admin.PoolTokenRef{Name: id}
		}},
		{op: "acme.token", kind: "acme.token", with: func(*faulty, string) any { return admin.ACMEToken{Valid: time.Hour} }},
		{op: "acme.void", kind: "acme.token-voided", with: func(f *faulty, _ string) any {
			var made admin.NewACMEToken
			f.call("acme.token", admin.ACMEToken{Valid: time.Hour}, &made)
			return admin.ACMETokenRef{ID: made.ID}
		}},
		{op: "acme.revoke", kind: "acme.account-revoked", with: func(f *faulty, id string) any { return admin.ACMEAccountRef{ID: f.acmeAccount(id)} }},
		{op: "step.add", kind: "step.provisioner-added", with: func(_ *faulty, id string) any { return stepProvisioner(id) }},
		{op: "step.remove", kind: "step.provisioner-removed", with: func(f *faulty, id string) any {
			f.call("step.add", stepProvisioner(id), nil)
			return admin.StepProvisionerRef{Name: id}
		}},
		{op: "firmware.add", kind: "firmware.added", with: func(f *faulty, id string) any {
			in, _ := signedRelease(f, id)
			return in
		}},
		{op: "firmware.approve", kind: "approval.requested", with: func(f *faulty, id string) any {
			return admin.ApproveRelease{Release: added(f, id), Reason: "x"}
		}},
		{op: "firmware.approve", kind: "approval.signed", with: func(f *faulty, id string) any {
			in := admin.ApproveRelease{Release: added(f, id), Reason: "x"}
			var m admin.Approval
			f.call("firmware.approve", in, &m)
			in.Signature = f.sign(m.Statement)
			return in
		}},
		{op: "firmware.publish", kind: "firmware.published", with: func(f *faulty, id string) any {
			return admin.ReleaseRef{Release: agreed(f, id)}
		}},
		{op: "firmware.revoke", kind: "firmware.revoked", with: func(f *faulty, id string) any {
			return admin.EndRelease{Release: added(f, id), Reason: "x"}
		}},
		{op: "firmware.withdraw", kind: "firmware.withdrawn", with: func(f *faulty, id string) any {
			return admin.EndRelease{Release: added(f, id), Reason: "x"}
		}},
		{op: "firmware.remove", kind: "firmware.removed", with: func(f *faulty, id string) any {
			in := admin.EndRelease{Release: added(f, id), Reason: "x"}
			f.call("firmware.withdraw", in, nil)
			return in
		}},
		{op: "firmware.supersede", kind: "firmware.superseded", with: func(f *faulty, id string) any {
			older := published(f, id)
			return admin.SupersedeRelease{Release: older, By: published(f, id+"-newer")}
		}},
		{op: "station.add", kind: "station.added", with: func(_ *faulty, id string) any { return admin.Enrolment{Identity: id, Serial: "SN-" + id, Profile: 2} }},
		{op: "station.import", kind: "station.added", with: func(_ *faulty, id string) any {
			return admin.Import{Stations: []admin.Enrolment{{Identity: id, Serial: "SN-" + id, Profile: 2}, {Identity: id + "b", Serial: "SN-b" + id, Profile: 3}}}
		}},
		{op: "station.remove", kind: "station.removed", with: func(f *faulty, id string) any { return admin.StationRef{Identity: certified(f, id)} }},
		{op: "station.password", kind: "station.password", with: func(f *faulty, id string) any { return admin.SetPassword{Identity: f.station(id, 2)} }},
		{op: "station.rotate", kind: "station.rotate", with: station, plans: true},
		{op: "station.roots", kind: "roots.wanted", with: func(f *faulty, id string) any {
			return admin.StationRoots{Identity: f.station(id, 2), Use: "csms", Own: true}
		}},
		{op: "station.profile", kind: "station.profile", plans: true, with: func(f *faulty, id string) any {
			return admin.SetProfile{Identity: f.station(id, 2), Profile: 3}
		}},
		{op: "station.profile", kind: "station.lowering", plans: true, with: func(f *faulty, id string) any {
			signed(f, id)
			return admin.SetProfile{Identity: id, Profile: 2}
		}},
		{op: "station.renew", kind: "station.renew", with: func(f *faulty, id string) any {
			return admin.Renew{Identity: f.station(id, 2), AllowExpired: time.Hour}
		}, plans: true},
		{op: "station.secc", kind: "station.secc", with: func(f *faulty, id string) any {
			return admin.StationSECC{Identity: f.station(id, 2), Add: &fleet.SECC{ID: "DE" + id, EVSE: 1}}
		}, plans: true},
		{op: "station.secc", kind: "station.secc", with: func(f *faulty, id string) any {
			f.call("station.secc", admin.StationSECC{Identity: f.station(id, 2), Add: &fleet.SECC{ID: "DE" + id}}, nil)
			return admin.StationSECC{Identity: id, Remove: "DE" + id}
		}},
		{op: "station.secc", kind: "station.secc", with: func(f *faulty, id string) any {
			return admin.StationSECC{Identity: f.station(id, 2), Renew: true}
		}},
		{op: "station.tpm", kind: "station.tpm", with: func(f *faulty, id string) any {
			return admin.StationTPM{Identity: f.station(id, 2), EK: ptr(fmt.Sprintf("%x", sha256.Sum256([]byte(id))))}
		}},
		{op: "station.tpm", kind: "station.tpm", with: func(f *faulty, id string) any {
			f.call("station.tpm", admin.StationTPM{Identity: f.station(id, 2), EK: ptr(fmt.Sprintf("%x", sha256.Sum256([]byte(id))))}, nil)
			return admin.StationTPM{Identity: id, EK: ptr("")}
		}},
		{op: "station.check", kind: "station.check", with: func(f *faulty, id string) any {
			return admin.SetCheck{Identity: f.station(id, 2), Check: fleet.Checks()[0], Warn: true}
		}},
		{op: "station.lost", kind: "station.lost", with: func(f *faulty, id string) any { return admin.LostStation{Identity: certified(f, id), Reason: "x"} }},
		{op: "station.lost", kind: "station.found", with: func(f *faulty, id string) any {
			signed(f, id)
			f.call("station.lost", admin.LostStation{Identity: id, Reason: "x"}, nil)
			return admin.LostStation{Identity: id, Found: true, Profile: 2}
		}},
		{op: "station.replace", kind: "station.replaced", with: func(f *faulty, id string) any {
			return admin.ReplaceStation{Identity: certified(f, id), Serial: "NEW-" + id, Profile: 2, Reason: "x"}
		}},
		{op: "station.decommission", kind: "station.decommissioned", with: func(f *faulty, id string) any {
			return admin.Decommission{Identity: certified(f, id), Reason: "x"}
		}},
		{op: "station.group", kind: "station.group", with: func(f *faulty, id string) any {
			return admin.StationGroup{Identity: f.station(id, 2), Site: ptr("yard")}
		}},
		{op: "station.enrol-secret", kind: "station.enrol-secret", with: func(f *faulty, id string) any {
			return admin.EnrolSecret{Identity: f.station(id, 3), Valid: time.Hour}
		}},
		{op: "backend.password", kind: "backend.password", with: func(f *faulty, id string) any {
			return admin.SetPassword{Identity: f.station(id, 2), Password: admin.Secret("a long enough secret")}
		}},
		{op: "ledger.forget", kind: "ledger.forgot", with: func(f *faulty, id string) any {
			raw, err := json.Marshal(admin.Enrolment{Identity: id, Serial: "SN-" + id, Profile: 2})
			if err == nil {
				_, err = f.registry.Invoke(admin.WithActor(f.t.Context(), "operator:"+id), "station.add", raw)
			}
			if err != nil {
				f.t.Fatal(err)
			}
			return admin.PersonRef{Name: id}
		}},
		{op: "fleet.want", kind: "fleet.wanted", with: func(_ *faulty, id string) any { return admin.Want{Group: id, Profile: ptr(3)} }},
		{op: "fleet.want", kind: "fleet.wanted", with: func(f *faulty, id string) any { return admin.Want{Station: f.station(id, 2), Profile: ptr(3)} }},
		{op: "fleet.want", kind: "fleet.group-removed", with: func(f *faulty, id string) any {
			f.call("fleet.want", admin.Want{Group: id, Profile: ptr(3)}, nil)
			return admin.Want{Group: id, Remove: true}
		}},
		{op: "fleet.run", kind: "fleet.started", with: func(f *faulty, id string) any {
			f.call("fleet.cancel", admin.RolloutRef{ID: running(f, id), Reason: "x"}, nil)
			return admin.FleetRun{FleetScope: admin.FleetScope{Group: id}, Rules: rollout.Rules{Waves: []float64{1}, Patience: time.Hour, PerMinute: 60}}
		}},
		{op: "fleet.pause", kind: "fleet.decided", with: func(f *faulty, id string) any { return admin.RolloutRef{ID: running(f, id), Reason: "x"} }},
		{op: "fleet.resume", kind: "fleet.decided", with: func(f *faulty, id string) any {
			r := admin.RolloutRef{ID: running(f, id), Reason: "x"}
			f.call("fleet.pause", r, nil)
			return r
		}},
		{op: "fleet.cancel", kind: "fleet.decided", with: func(f *faulty, id string) any { return admin.RolloutRef{ID: running(f, id), Reason: "x"} }},
		{op: "ca.issue", kind: "certificate.issued", with: func(f *faulty, id string) any {
			return admin.Issue{Profile: "station", Station: f.station(id, 2), CSR: request(f.t, id)}
		}},
		{op: "ca.revoke", kind: "certificate.revoked", with: func(f *faulty, id string) any {
			return admin.Revoke{Serial: f.certificate(f.station(id, 2)), Reason: "keyCompromise"}
		}},
		{op: "ca.trust.add", kind: "trust.added", with: func(f *faulty, _ string) any { return admin.AddTrust{Use: "v2g", PEM: root(f.t)} }},
		{op: "ca.trust.remove", kind: "trust.removed", with: func(f *faulty, _ string) any {
			var added admin.Anchors
			f.call("ca.trust.add", admin.AddTrust{Use: "v2g", PEM: root(f.t)}, &added)
			return admin.RemoveTrust{Use: "v2g", Hash: added.Anchors[0].Hash}
		}},
		{op: "approval.request", kind: "approval.requested", with: func(f *faulty, id string) any {
			return admin.AskApproval{Action: fleet.ActionDowngrade, Name: f.station(id, 3), Reason: "x"}
		}},
		{op: "approval.sign", kind: "approval.signed", with: func(f *faulty, id string) any {
			m := asked(f, id)
			return admin.SignApproval{ID: m.Nonce, Signature: f.sign(m.Statement)}
		}},
		{op: "approval.withdraw", kind: "approval.withdrawn", with: func(f *faulty, id string) any {
			return admin.WithdrawApproval{ID: asked(f, id).Nonce, Reason: "x"}
		}},
		{op: "ledger.span", kind: "ledger.exported", alone: true, with: func(*faulty, string) any { return admin.SpanLedger{To: time.Now()} }},
		{op: "backup.snapshot", kind: "backup.snapshot", alone: true, with: func(*faulty, string) any { return admin.None{} }},
		{op: "policy.promote", kind: "policy.promoted", alone: true, with: func(*faulty, string) any { return ruleRef{"boot-rate"} }},
		{op: "policy.demote", kind: "policy.demoted", alone: true, with: func(*faulty, string) any { return ruleRef{"boot-rate"} }},
		{op: "ca.create", kind: "certificate.issued", once: true, uncut: true, with: func(*faulty, string) any { return admin.KindRef{Kind: "manufacturer"} }},
		{op: "ca.request", kind: "ca.requested", once: true, with: func(*faulty, string) any { return admin.RequestCA{Kind: "v2g-20", Level: 1} }},
		{op: "ca.import", kind: "ca.imported", once: true, with: func(f *faulty, _ string) any { return f.certified("v2g") }},
		{op: "ca.remove-chain", kind: "ca.chain-removed", once: true, with: func(f *faulty, _ string) any {
			f.call("ca.import", f.certified("v2g"), nil) // one more
			var out admin.Chains
			f.call("ca.chains", admin.ChainRef{Kind: "v2g"}, &out)
			return admin.ChainRef{Kind: "v2g", Hash: out.Chains[0].Hash}
		}},
		{op: "ca.mount", kind: "ca.requested", once: true, with: func(f *faulty, id string) any {
			return admin.MountCA{Kind: "csms", URI: "vault-pki:address=https://vault.example:8200?token-source=/token", CSR: request(f.t, id)}
		}},
		{op: "keys.migrate", kind: "ca.rekeyed", once: true, uncut: true, with: func(*faulty, string) any { return admin.MigrateKeys{To: "softkms:moved"} }},
		{op: "ca.import-list", kind: "crl.imported", once: true, with: func(f *faulty, _ string) any { return f.offlineList() }},
		{op: "ca.ceremony", kind: "ca.ceremony", alone: true, with: func(f *faulty, _ string) any { return f.ceremony() }},
		{op: "ca.rollover", kind: "ca.rollover", once: true, with: func(*faulty, string) any { return admin.Rollover{Kind: "csms", Step: "start"} }},
		{op: "ca.rollover", kind: "ca.rollover", once: true, with: func(*faulty, string) any {
			return admin.Rollover{Kind: "csms", Step: "switch", Share: 1, Force: true}
		}},
		{op: "ca.rollover", kind: "ca.rollover", once: true, with: func(*faulty, string) any { return admin.Rollover{Kind: "csms", Step: "finish", Force: true} }},
	}
}

// undecided are the operations that decide nothing: they read, have nothing in
// the database to show, or need a server, where they write an entry alone.
func undecided() []string {
	return []string{
		"alert.list", "alert.test", "approval.list", "approval.show", "approver.list", "backup.state", "ca.chains", "ca.lists", "ca.check", "ca.crl", "ca.renew", "ca.root", "ca.show", "ca.use-mount",
		"ca.trust.list", "cert.list", "cert.show", "contract.list", "firmware.rollout.plan", "firmware.rollout.show", "firmware.rollouts", "firmware.cancel", "firmware.clear", "firmware.list", "firmware.show", "firmware.report", "firmware.updates", "fleet.groups", "fleet.list", "fleet.plan", "fleet.status", "keys.custody", "keys.show", "ledger.checkpoint",
		"ledger.epochs", "ledger.page", "ledger.person", "ledger.prove", "ledger.verify", "policy.anchors", "policy.entries", "policy.held",
		"policy.release", "policy.reload", "policy.show", "pool.token.list", "acme.accounts", "step.list", "server.status", "station.events", "station.fetch-log", "station.list", "station.logs", "station.show",
	}
}
