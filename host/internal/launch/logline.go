package launch

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Caps on one log record: a connector does not decide how much the host's log can take.
const (
	maxText   = 8 << 10
	maxField  = 2 << 10
	maxFields = 32
)

// entry is a line of a connector, understood as far as possible.
type entry struct {
	level  slog.Level
	text   string
	fields []slog.Attr
}

// The keys under which loggers put the three things that every record has: hclog, slog, zerolog, pino, python-json and
// the clouds' own.
var (
	levelKeys   = []string{"@level", "level", "levelname", "severity", "lvl"}
	messageKeys = []string{"@message", "msg", "message", "event"}
	timeKeys    = []string{"@timestamp", "time", "ts", "timestamp", "asctime"}
)

// parseLine reads a line as a JSON log record, or else as text. Text that starts like a crash of a Go program is an
// error; other text is information. It never fails and never panics: the line comes from somebody else's program.
func parseLine(line []byte) entry {
	trimmed := bytes.TrimSpace(line)
	if len(trimmed) > 1 && trimmed[0] == '{' {
		var m map[string]json.RawMessage
		if json.Unmarshal(trimmed, &m) == nil {
			return parseRecord(m)
		}
	}
	e := entry{level: slog.LevelInfo, text: clip(string(line), maxText)}
	if startsPanic(trimmed) {
		e.level = slog.LevelError
	}
	return e
}

func startsPanic(line []byte) bool {
	return bytes.HasPrefix(line, []byte("panic:")) || bytes.HasPrefix(line, []byte("fatal error:"))
}

func parseRecord(m map[string]json.RawMessage) entry {
	e := entry{level: slog.LevelInfo}
	if v, ok := take(m, levelKeys); ok {
		e.level = parseLevel(v)
	}
	if v, ok := take(m, messageKeys); ok {
		e.text = clip(plain(v), maxText)
	}
	if v, ok := take(m, timeKeys); ok {
		e.fields = append(e.fields, slog.String("logged_at", clip(plain(v), 64)))
	}
	keys := slices.Sorted(maps.Keys(m))
	for i, k := range keys {
		if i == maxFields {
			e.fields = append(e.fields, slog.Int("more_fields", len(keys)-i))
			break
		}
		e.fields = append(e.fields, slog.String(clip(k, 64), clip(plain(m[k]), maxField)))
	}
	return e
}

// take removes and returns the first of keys that is there.
func take(m map[string]json.RawMessage, keys []string) (json.RawMessage, bool) {
	for _, k := range keys {
		if v, ok := m[k]; ok {
			delete(m, k)
			return v, true
		}
	}
	return nil, false
}

// plain is a JSON string's value, or the JSON text of anything else.
func plain(v json.RawMessage) string {
	var s string
	if len(v) > 0 && v[0] == '"' && json.Unmarshal(v, &s) == nil {
		return s
	}
	return string(v)
}

func parseLevel(v json.RawMessage) slog.Level {
	var n float64
	if json.Unmarshal(v, &n) == nil { // pino and bunyan: 10 trace … 60 fatal
		switch {
		case n >= 50:
			return slog.LevelError
		case n >= 40:
			return slog.LevelWarn
		case n >= 30:
			return slog.LevelInfo
		default:
			return slog.LevelDebug
		}
	}
	s := strings.ToLower(plain(v))
	switch {
	case strings.HasPrefix(s, "trace"), strings.HasPrefix(s, "debug"):
		return slog.LevelDebug
	case strings.HasPrefix(s, "warn"):
		return slog.LevelWarn
	case strings.HasPrefix(s, "err"), strings.HasPrefix(s, "crit"), strings.HasPrefix(s, "fatal"),
		strings.HasPrefix(s, "panic"), strings.HasPrefix(s, "dpanic"), strings.HasPrefix(s, "emerg"), strings.HasPrefix(s, "alert"):
		return slog.LevelError
	default:
		return slog.LevelInfo
	}
}

// clip makes s valid UTF-8 of at most n bytes and a mark.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
