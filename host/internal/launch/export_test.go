package launch

// OnChecked makes f run what between the check of its file and its start.
func (f File) OnChecked(what func()) File {
	f.checked = what
	return f
}

// ParseShebang is parseShebang with its parts apart.
func ParseShebang(head []byte) (interpreter string, args []string, err error) {
	s, err := parseShebang(head)
	return s.interpreter, s.args, err
}
