package report

import (
	"slices"
	"strings"
)

// Duty is a clause that entries of the ledger are evidence for.
type Duty struct {
	Law    string `json:"law"`    // as --law names it
	Clause string `json:"clause"` // as the law counts
	About  string `json:"about"`
	kinds  []string
}

// Law is a text that asks for evidence.
type Law struct {
	Name  string // for --law
	Title string
}

// Laws are those an export is made for, in the order of its page.
func Laws() []Law {
	return []Law{
		{"cra", "Cyber Resilience Act, Regulation (EU) 2024/2847"},
		{"nis2", "NIS 2 Directive, (EU) 2022/2555"},
		{"en18031", "EN 18031-1 and -2:2024 (Radio Equipment Directive)"},
		{"uk-2021-1467", "UK SI 2021/1467, Smart Charge Points, schedule 1"},
		{"ocpp", "OCPP 2.0.1 edition 3, part 2: requirements"},
	}
}

// covers says whether entries of a kind are evidence for the duty.
func (d *Duty) covers(kind string) bool {
	return slices.ContainsFunc(d.kinds, func(pattern string) bool {
		noun, whole := strings.CutSuffix(pattern, "*")
		return kind == pattern || whole && strings.HasPrefix(kind, noun)
	})
}

// Covered says whether entries of a kind are evidence for any clause.
func Covered(kind string) bool {
	return slices.ContainsFunc(duties(), func(d Duty) bool { return d.covers(kind) })
}

// duties are the clauses. An entry is evidence that something was decided, done
// or seen; whether a clause is met isn't for a program to say.
func duties() []Duty {
	incidents := []string{
		"finding.raised", "claim.refused", "certificate.doubted", "certificate.refused", "certificate.revoked", "certificate.orphaned",
		"station.lost", "station.found", "check.warned", "backup.restored",
	}
	logging := []string{"log.*", "event.dropped", "outbox.dropped", "backend.unable", "finding.raised", "ledger.*", "retention.expired", "plan.time-source"}
	issuance := func(more ...string) []string {
		return append(more, "certificate.*", "order.*", "acme.*", "step.*", "server.certificate")
	}
	return []Duty{
		{"cra", "art. 14(1), (3)", "what a report of an exploited vulnerability or severe incident rests on: findings, refusals, compromised stations and keys", incidents},
		{"cra", "annex I, part I (2)(c), part II (7), (8)", "security updates: signed, approved, delivered, seen to be installed", []string{"firmware.*", "quote.*"}},
		{"cra", "annex I, part I (2)(d)", "protection from unauthorised access, and reports of attempts", []string{
			"claim.refused", "station.*", "password.*", "certificate.seen", "check.warned", "approval.*", "backend.password"}},
		{"cra", "annex I, part I (2)(e)", "keys and certificates that keep traffic confidential", issuance("crl.*", "ca.*", "mount.*", "ceremony.*", "roots.*", "trust.*", "rollover.proven")},
		{"cra", "annex I, part I (2)(f)", "integrity of commands and configuration, and reports of corruption", []string{
			"policy.*", "config.taken", "backend.refused", "backend.unable", "plan.*", "fleet.*", "backup.restored", "ledger.*"}},
		{"cra", "annex I, part I (2)(k)", "the impact of an incident is reduced", []string{"certificate.revoked", "station.lost", "station.decommissioned", "station.released", "station.withdrawn", "trust.removed"}},
		{"cra", "annex I, part I (2)(l)", "internal activity is recorded and monitored", logging},

		{"nis2", "art. 21(2)(b)", "incident handling", incidents},
		{"nis2", "art. 21(2)(c)", "business continuity: backups, recovery, root changes and moves that can be taken back", []string{
			"backup.*", "certificate.recovered", "ledger.epoch", "ledger.migrated", "ca.rollover", "rollover.proven", "fleet.*"}},
		{"nis2", "art. 21(2)(h)", "use of cryptography", issuance("crl.*", "ca.*", "mount.*", "ceremony.*", "roots.*", "trust.*", "plan.*")},
		{"nis2", "art. 21(2)(i)", "access control and management of assets", []string{"station.*", "claim.refused", "acme.refused", "step.refused", "step.provisioner-added", "step.provisioner-removed", "password.*", "policy.*", "approval.*", "backend.password"}},
		{"nis2", "art. 23(1), (4)", "what a report of a significant incident rests on", incidents},

		{"en18031", "-1 ACM", "access control: what each party may send and change", []string{"policy.*", "config.taken", "backend.refused", "approval.*", "station.check"}},
		{"en18031", "-1 AUM", "authentication: proofs taken and refused, passwords changed", []string{
			"claim.refused", "password.*", "station.password", "station.rotate", "certificate.seen", "station.admitted", "station.put-off", "station.floor", "check.warned"}},
		{"en18031", "-1 SCM", "secure communication: profiles, roots, server chains", []string{
			"plan.profile", "plan.chain", "station.profile", "station.floor", "roots.*", "rollover.proven", "fleet.rollout", "server.certificate"}},
		{"en18031", "-1 CCK", "confidential keys: made, used once for one holder, revoked", issuance("crl.intent", "station.enrol-secret", "station.enrol-secret-used", "station.enrol-secret-void")},
		{"en18031", "-1 SUM", "secure updates: verified before they are installed", []string{"firmware.*", "quote.*"}},
		{"en18031", "-2 LGM", "logging of security-relevant activity", logging},

		{"uk-2021-1467", "schedule 1, para. 2", "passwords are a station's own and can be changed", []string{"password.*", "station.password", "station.rotate", "station.added"}},
		{"uk-2021-1467", "schedule 1, para. 3", "software is updated, and authentic", []string{"firmware.*", "quote.*"}},
		{"uk-2021-1467", "schedule 1, para. 4", "security parameters are a station's own and protected", issuance("station.enrol-secret", "station.enrol-secret-used", "station.enrol-secret-void", "backend.password")},
		{"uk-2021-1467", "schedule 1, para. 5", "secure communication", []string{"plan.profile", "plan.chain", "station.profile", "station.floor", "roots.*", "trust.*", "rollover.proven"}},
		{"uk-2021-1467", "schedule 1, para. 6", "data inputs are judged", []string{"policy.*", "backend.refused"}},
		{"uk-2021-1467", "schedule 1, para. 8", "attacks are seen and told", []string{"claim.refused", "finding.raised", "check.warned", "certificate.doubted", "certificate.revoked", "station.lost", "quote.wrong", "quote.overdue"}},
		{"uk-2021-1467", "schedule 1, para. 10", "the security log", logging},

		{"ocpp", "A01", "password of a station changed", []string{"password.*", "station.rotate", "station.password"}},
		{"ocpp", "A02, A03", "certificate of a station renewed", issuance("plan.triggered", "station.renew")},
		{"ocpp", "A04, N01", "security events and logs taken from stations", logging},
		{"ocpp", "A05, B09", "profile raised, network profile changed", []string{"plan.profile", "station.profile", "station.floor", "fleet.*"}},
		{"ocpp", "L01, L02", "firmware updates judged, sent and followed", []string{"firmware.*"}},
		{"ocpp", "M01, M02, C07", "contract certificates given to cars and shown by them, or refused", []string{"contract.*", "provisioning.*", "pool.*"}},
		{"ocpp", "K15 to K19", "tariffs signed for cars", []string{"tariff.signed"}},
		{"ocpp", "M03, M04, M05", "roots in stations read, deleted and installed", []string{"roots.*", "plan.chain", "rollover.proven", "trust.*"}},
	}
}
