package management

// Sweep does at once what is done every half minute.
func (m *Management) Sweep() { m.sweep() }
