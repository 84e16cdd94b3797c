package approval_test

import (
	"testing"
	"time"

	"bollard/approval"
)

// No bytes count as a signature of somebody whose key they weren't made with,
// and none make the parsers panic.
func FuzzSignature(f *testing.F) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti a"
	f.Add([]byte("-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAg\n-----END SSH SIGNATURE-----\n"))
	f.Add([]byte("-----BEGIN CMS-----\nMIIBBgYJKoZIhvcNAQcCoIH4MIH1AgEBMQA=\n-----END CMS-----\n"))
	f.Add([]byte{0x30, 0x80, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02, 0xa0, 0x80})
	registered, err := approval.ParseSSH([]byte(key))
	if err != nil {
		f.Fatal(err)
	}
	now := time.Unix(1_800_000_000, 0)
	r := request(now)
	people := []approval.Approver{{Name: "alice", Keys: []approval.Key{registered}}}
	f.Fuzz(func(t *testing.T, signature []byte) {
		if a, err := approval.Signer(&r, signature, people, now); err == nil {
			t.Errorf("counts for %s", a.Name)
		}
	})
}

// What is read as a key is read so again.
func FuzzKeys(f *testing.F) {
	f.Add([]byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti a"))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if k, err := approval.ParseSSH(text); err == nil && (k.ID == "" || k.Kind != approval.KindSSH) {
			t.Errorf("%+v", k)
		}
		if k, err := approval.ParseX509(text); err == nil {
			if again, err := approval.ParseX509(k.Data); err != nil || again.ID != k.ID {
				t.Errorf("%s became %s, %v", k.ID, again.ID, err)
			}
		}
	})
}
