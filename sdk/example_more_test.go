package sdk_test

import (
	"context"
	"fmt"
	"log"
	"strings"
	"time"

	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/plugin/event"
	"github.com/casewire/casewire/sdk"
)

// Mailbox is a connection that listens and that has files.
type Mailbox struct{ incoming chan Mail }

// Mail is what comes in.
type Mail struct {
	ID      string    `json:"id"`
	Subject string    `json:"subject"`
	At      time.Time `json:"at"`
}

// Position is the cursor: a plain struct, which the host keeps together with the events.
type Position struct {
	Last string `json:"last"`
}

// A trigger that listens runs until it is stopped. The host opens it again from the last cursor that is on disk.
func ExampleTrigger_stream() {
	c := sdk.New("mailbox", "1.0.0", "Reads a mailbox.", func(context.Context, struct{}, sdk.Env) (*Mailbox, error) {
		return &Mailbox{incoming: make(chan Mail)}, nil
	})
	sdk.AddTrigger(c, sdk.Trigger[*Mailbox, Position]{
		Name: "mails", Summary: "Mails as they come in.", Emits: []string{event.TypeRow},
		Stream: func(m *Mailbox, ctx context.Context, _ Position, emit func(sdk.Page[Position]) error) error {
			for {
				select {
				case mail := <-m.incoming:
					ev, err := sdk.RowEvent("imap://mail.example", mail.ID, mail.At, "Mail", mail)
					if err != nil {
						return err
					}
					if err := emit(sdk.Page[Position]{Events: []sdk.Event{ev}, Cursor: Position{mail.ID}}); err != nil {
						return err
					}
				case <-time.After(time.Minute):
					sdk.Idle(ctx, time.Minute, nil) // alive, and nothing to say
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		},
	})
	about, err := sdk.Server(c).Describe(context.Background(), &connectorv1.DescribeRequest{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(about.GetTriggers()[0].GetName(), "streams:", about.GetTriggers()[0].GetStreams())
	// Output: mails streams: true
}

// An action that sends files says so; in a flow they are its output's "blobs".
func ExampleSendBlob() {
	c := sdk.New("mailbox", "1.0.0", "Reads a mailbox.", func(context.Context, struct{}, sdk.Env) (*Mailbox, error) { return &Mailbox{}, nil })
	sdk.Action(c, "mail.attachments", "Get the attachments of a mail.", func(_ *Mailbox, ctx context.Context, _ struct{}) (struct{}, error) {
		return struct{}{}, sdk.SendBlob(ctx, "invoice.txt", "text/plain", strings.NewReader("pay me"))
	}, sdk.Read, sdk.Blobs())
	about, err := sdk.Server(c).Describe(context.Background(), &connectorv1.DescribeRequest{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(about.GetActions()[0].GetBlobs())
	// Output: true
}
