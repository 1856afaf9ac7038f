package lab

import (
	"crypto/sha1" //nolint:gosec // the shape of a hash is wanted, not its strength
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/casewire/casewire/examples"
)

// Alert is one alert to send.
type Alert struct {
	ID   string
	Raw  []byte
	Hive bool // the flow to TheHive wants it: medium and above
}

// Alerts varies the fixtures: ids, users, hosts, addresses and times differ; severities and evidence go around.
func Alerts(n int, seed uint64, tenant string, now time.Time) ([]Alert, error) {
	raw, err := examples.Files.ReadFile("fixtures/alerts.json")
	if err != nil {
		return nil, err
	}
	var templates []json.RawMessage
	if err := json.Unmarshal(raw, &templates); err != nil {
		return nil, fmt.Errorf("fixtures: %w", err)
	}
	rnd := rand.New(rand.NewPCG(seed, 7))
	users := strings.Fields("amina bruno chidi dalia emre farah goran hana ines jonas kofi lena")
	families := strings.Fields("Bluefin Carbon Drizzle Emberly Foxglove")
	out := make([]Alert, n)
	for i := range out {
		t := templates[i%len(templates)]
		id := "sn" + guid(rnd)
		created := now.Add(-time.Duration(n-i) * 10 * time.Millisecond).UTC()
		text := strings.NewReplacer(
			"$GUID2", guid(rnd), "$GUID", guid(rnd), "$ID", id, "$TENANT", tenant, "$INCIDENT", strconv.Itoa(40_000+i/3),
			"$DETECTOR", guid(rnd), "$CREATED", stamp(created), "$FIRST", stamp(created.Add(-time.Minute)),
			"$LAST", stamp(created.Add(-time.Second)), "$USER", users[rnd.IntN(len(users))],
			"$HOST", fmt.Sprintf("ws-%03d", rnd.IntN(400)), "$FAMILY", families[rnd.IntN(len(families))],
			"$HASH40", hash40(i), "$HASH64", hash64(i), "$N4", fmt.Sprintf("%04d", i), "$N", strconv.Itoa(1000+i),
			"$B", strconv.Itoa(1+rnd.IntN(250)), "$C", strconv.Itoa(1+rnd.IntN(250)),
		).Replace(string(t))
		var fields map[string]any
		if err := json.Unmarshal([]byte(text), &fields); err != nil {
			return nil, fmt.Errorf("fixture %d: %w", i%len(templates), err)
		}
		fields["id"] = id
		b, err := json.Marshal(fields)
		if err != nil {
			return nil, err
		}
		sev := fields["severity"]
		out[i] = Alert{ID: id, Raw: b, Hive: sev == "medium" || sev == "high"}
	}
	return out, nil
}

// Wanted counts the alerts that must become TheHive cases.
func Wanted(alerts []Alert) int {
	n := 0
	for _, a := range alerts {
		if a.Hive {
			n++
		}
	}
	return n
}

func guid(r *rand.Rand) string {
	a, b := r.Uint64(), r.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", uint32(a>>32), uint16(a>>16), a&0xfff, b>>52, b&0xffffffffffff)
}

func stamp(t time.Time) string { return t.Format("2006-01-02T15:04:05.0000000Z") }

func hash40(i int) string {
	s := sha1.Sum([]byte(strconv.Itoa(i))) //nolint:gosec // see the import
	return hex.EncodeToString(s[:])
}

func hash64(i int) string {
	s := sha256.Sum256([]byte(strconv.Itoa(i)))
	return hex.EncodeToString(s[:])
}
