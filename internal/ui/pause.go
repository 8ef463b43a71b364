package ui

// Pause takes the view off the screen, so that a question can be asked there,
// and prints the lines that are final. Events that come meanwhile are kept and
// shown after resume. A second Pause before resume does nothing.
func (l *Live) Pause() (resume func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.paused {
		return func() {}
	}
	l.draw(nil)
	l.paused = true
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.paused, l.dirty = false, true
	}
}

// Pause holds lines back until resume, so that a question can be asked.
func (p *Plain) Pause() (resume func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.paused {
		return func() {}
	}
	p.paused = true
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.resume()
	}
}

// Pause does nothing: events go to stdout, and questions are asked on stderr.
func (j *JSON) Pause() (resume func()) { return func() {} }
