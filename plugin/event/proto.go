package event

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/casewire/casewire/plugin/connectorv1"
)

// ToProto is the event as it crosses the wire. It shares e's data and aliases.
func ToProto(e Event) *connectorv1.Event {
	p := &connectorv1.Event{
		Id: e.ID, Source: e.Source, Type: e.Type, Subject: e.Subject, Dataschema: e.DataSchema,
		PartitionKey: e.PartitionKey, CorrelationId: e.CorrelationID, CausationId: e.CausationID,
		Tenant: e.Tenant, Rev: e.Rev, Digest: e.Digest, Tlp: e.TLP, Pap: e.PAP,
		Aliases: e.Aliases, Traceparent: e.TraceParent, Data: e.Data,
	}
	if !e.Time.IsZero() {
		p.Time = timestamppb.New(e.Time)
	}
	return p
}

// FromProto is the reverse of ToProto. Nothing is checked: that is what Check is for.
func FromProto(p *connectorv1.Event) Event {
	e := Event{
		ID: p.GetId(), Source: p.GetSource(), Type: p.GetType(), Subject: p.GetSubject(), DataSchema: p.GetDataschema(),
		PartitionKey: p.GetPartitionKey(), CorrelationID: p.GetCorrelationId(), CausationID: p.GetCausationId(),
		Tenant: p.GetTenant(), Rev: p.GetRev(), Digest: p.GetDigest(), TLP: p.GetTlp(), PAP: p.GetPap(),
		Aliases: p.GetAliases(), TraceParent: p.GetTraceparent(), Data: p.GetData(),
	}
	if t := p.GetTime(); t != nil && t.IsValid() {
		e.Time = t.AsTime()
	}
	return e
}
