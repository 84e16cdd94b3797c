package ws

// NewLoop is NewLoops with one loop, which all pairs share.
func NewLoop() (*Loops, error) {
	one, err := newLoop()
	if err != nil {
		return nil, err
	}
	return &Loops{loops: []*Loop{one}}, nil
}
