package ioc_test

import (
	"strings"
	"testing"

	"github.com/casewire/casewire/sdk/ioc"
)

func TestRefang(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"hxxps://evil[.]example[.]com/a[.]php": "https://evil.example.com/a.php",
		"hXXp://evil(.)com":                    "http://evil.com",
		"HTTP://evil.com":                      "http://evil.com",
		"hzzp[://]evil{.}com":                  "http://evil.com",
		"h**ps://evil[dot]com":                 "https://evil.com",
		"h__p://evil(DOT)com":                  "http://evil.com",
		"meows://evil.com":                     "https://evil.com",
		"fxp://files.evil.com":                 "ftp://files.evil.com",
		"evil dot com":                         "evil.com",
		"bad[@]evil[.]com":                     "bad@evil.com",
		"bad(at)evil dot com":                  "bad@evil.com",
		"bad at evil.com":                      "bad@evil.com",
		"10[.]0[.]0[.]1":                       "10.0.0.1",
		`10\.0\.0\.1`:                          "10.0.0.1",
		"2001[:]db8[:][:]1":                    "2001:db8::1",
		"ev\u200bil\u202e.com":                 "evil.com",
		"evil。com":                             "evil.com",
		"evil．com":                             "evil.com",
		"evil[[.]]com":                         "evil.com",
		"evil[ . ]com":                         "evil.com",
		"hxxp[:]//evil.com":                    "http://evil.com",
		"http:[/][/]evil.com":                  "http://evil.com",
		"(hxxp://evil.com)":                    "(http://evil.com)",
		"see hxxps://a[.]b, and ftp://c.d":     "see https://a.b, and ftp://c.d",
		"meet me at noon":                      "meet me at noon",
		"plain text":                           "plain text",
		"":                                     "",
		"\u00adfxp://x":                        "ftp://x",
		"ähxxp://x":                            "ähxxp://x", // not a word of its own
	} {
		if got := ioc.Refang(in); got != want {
			t.Errorf("Refang(%q) = %q, want %q", in, got, want)
		}
	}
	deep := strings.Repeat("[", 1_000) + "." + strings.Repeat("]", 1_000)
	_ = ioc.Refang(deep) // must come back
}

func TestDefang(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"https://evil.example.com/a.php?x=1.2": "hxxps://evil[.]example[.]com/a.php?x=1.2",
		"http://u@evil.com:8080":               "hxxp://u[@]evil[.]com:8080",
		"ftp://evil.com/x":                     "fxp://evil[.]com/x",
		"http://[2001:db8::1]/":                "hxxp://[2001[:]db8[:][:]1]/",
		"evil.com":                             "evil[.]com",
		"bad@evil.com":                         "bad[@]evil[.]com",
		"10.0.0.1":                             "10[.]0[.]0[.]1",
		"2001:db8::1":                          "2001[:]db8[:][:]1",
		`C:\a.exe`:                             `C:\a.exe`,
		"two words.":                           "two words.",
		"abc":                                  "abc",
		"":                                     "",
	} {
		if got := ioc.Defang(in); got != want {
			t.Errorf("Defang(%q) = %q, want %q", in, got, want)
		}
		if in != strings.ToLower(in) {
			continue
		}
		if got := ioc.Refang(ioc.Defang(in)); got != in {
			t.Errorf("Refang(Defang(%q)) = %q", in, got)
		}
	}
}

func FuzzFang(f *testing.F) {
	for _, s := range []string{
		"https://evil.example.com/a.php", "hxxps://a[.]b", "http://[2001:db8::1]/[.]", "bad@evil.com", "1.2.3.4", "::1", "a dot b at c.d", "ftp://x", "[::]",
		"hxxp://http://x", "http://a]b.c", "http://[.", "a[.", "x@]", "[dot", "( ./", "{.", "[at", "h**p://", "\\.a", "a\\.b",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		x := ioc.Refang(s)
		if ioc.Refang(x) != x {
			t.Skip() // deeper than any person writes
		}
		if got := ioc.Refang(ioc.Defang(x)); got != x {
			t.Errorf("x = %q: Refang(%q) = %q", x, ioc.Defang(x), got)
		}
	})
}
