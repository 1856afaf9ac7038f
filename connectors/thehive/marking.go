package thehive

import "github.com/casewire/casewire/sdk/ioc"

// level is how strict a marking is; a higher one tells fewer people.
type level int

const (
	levelClear level = iota
	levelGreen
	levelAmber
	levelAmberStrict
	levelRed
)

// tlpLevel reads a TLP in any of the spellings that are in use.
func tlpLevel(name string) (level, bool) {
	t, err := ioc.ParseTLP(name)
	if err != nil {
		return 0, false
	}
	return level(t.Number()), true // from 0, clear, to 4, red
}

// papLevel reads a PAP; it has no amber+strict.
func papLevel(name string) (level, bool) {
	p, err := ioc.ParsePAP(name)
	if err != nil {
		return 0, false
	}
	return papOf(p.Number()), true
}

func (l level) String() string {
	return [...]string{"clear", "green", "amber", "amber+strict", "red"}[l]
}

// tlp is the number that a server of this version means by l. TheHive 5.2 renumbered: before it, red was 3 and
// amber+strict did not exist, so that sending a 3 for red to a newer server silently lowers the marking. On an old
// server amber+strict becomes red, the next stricter one.
func (s *server) tlp(l level) int {
	if s.oldTLP && l >= levelAmberStrict {
		return 3
	}
	return int(l)
}

// tlpOf is the reverse of tlp.
func (s *server) tlpOf(n int) level {
	if s.oldTLP && n >= 3 {
		return levelRed
	}
	return level(min(max(n, 0), int(levelRed)))
}

// pap is the number of a PAP: clear 0 to red 3.
func pap(l level) int {
	if l == levelRed {
		return 3
	}
	return int(l)
}

func papOf(n int) level {
	if n >= 3 {
		return levelRed
	}
	return level(max(n, 0))
}

// severity turns an OCSF severity_id into TheHive's 1 (low) to 4 (critical); what is unknown counts as medium.
func severity(id *int) int {
	if id == nil {
		return 2
	}
	switch *id {
	case 1, 2:
		return 1
	case 4:
		return 3
	case 5, 6:
		return 4
	}
	return 2
}
