package ca

// Watcher hears of changes after they are durable and before the call that
// made them returns. Its methods must be quick; they may read the authority, not change it.
type Watcher interface {
	// Revoked: this certificate of one of the own CAs was revoked.
	Revoked(issuer, serial string)
	// Changed: hierarchies, roots, chains or OCSP signers are others now.
	Changed()
}

// Watch adds a watcher.
func (a *Authority) Watch(w Watcher) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.watch = append(a.watch, w)
}

func (a *Authority) watchers() []Watcher {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.watch[:len(a.watch):len(a.watch)]
}

func (a *Authority) changed() {
	for _, w := range a.watchers() {
		w.Changed()
	}
}

func (a *Authority) revoked(r Record) {
	if r.External {
		return
	}
	for _, w := range a.watchers() {
		w.Revoked(r.Issuer, r.Serial)
	}
	a.dismiss(r)
	if r.Profile == ProfileOCSP {
		a.changed()
	}
}
