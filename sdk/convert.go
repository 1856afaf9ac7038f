package sdk

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/plugin/event"
)

// convert checks events and makes them fit for the wire; a broken one becomes a rejected object rather than a cursor
// that never moves again. It returns the size of it all.
func convert(events []Event, rejected []Rejected) (out []*connectorv1.Event, bad []*connectorv1.Rejected, size int) {
	for i := range events {
		e := &events[i]
		if err := e.Check(); err != nil {
			rejected = append(rejected, Rejected{
				Source: e.Source, Subject: e.Subject, Raw: e.Data, Reason: "the connector made a broken event: " + err.Error(),
			})
			continue
		}
		p := event.ToProto(*e)
		out = append(out, p)
		size += proto.Size(p) + 8
	}
	for _, r := range rejected {
		p := &connectorv1.Rejected{Source: r.Source, Subject: r.Subject, Reason: r.Reason, Raw: r.Raw}
		if len(p.Reason) > plugin.MaxErrorDetail {
			p.Reason = p.Reason[:plugin.MaxErrorDetail]
		}
		if len(p.Raw) > plugin.MaxEvent {
			// It cannot cross whole. Say so, and leave what tells people which object it was.
			p.Reason += fmt.Sprintf(" (the object has %d bytes, SHA-256 %x; the first %d are kept)", len(r.Raw), sha256.Sum256(r.Raw), plugin.MaxEvent)
			p.Raw = p.Raw[:plugin.MaxEvent]
		}
		sanitize(p)
		bad = append(bad, p)
		size += proto.Size(p) + 8
	}
	return out, bad, size
}

// sanitize makes the texts valid UTF-8: protobuf refuses the whole message otherwise, and a rejected object is the most
// likely one to have bad text.
func sanitize(p *connectorv1.Rejected) {
	p.Source = strings.ToValidUTF8(p.GetSource(), "\uFFFD")
	p.Subject = strings.ToValidUTF8(p.GetSubject(), "\uFFFD")
	p.Reason = strings.ToValidUTF8(p.GetReason(), "\uFFFD")
}
