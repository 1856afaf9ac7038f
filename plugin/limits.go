package plugin

import "time"

// Sizes are bytes. Both sides enforce them; what is over is answered with a typed error that names the field and its
// size, never dropped.
const (
	// MaxSend is the largest message that either side builds: under the 4 MiB that an untuned gRPC stack accepts.
	MaxSend = 3 << 20
	// MaxReceive is the largest message that the host accepts from a connector.
	MaxReceive = 8 << 20
	// MaxEvent is the largest event data, and the largest row.
	MaxEvent = 1 << 20
	// RowChunk is where a chunk of rows is flushed.
	RowChunk = 256 << 10
	// MaxInput is the largest action input.
	MaxInput = 2 << 20
	// MaxOutput is the largest action output that is not rows.
	MaxOutput = 2 << 20
	// MaxBlobPiece is the largest piece of a file in one message; BlobPiece is how it is sent.
	MaxBlobPiece = 1 << 20
	BlobPiece    = 256 << 10
	// MaxInlineBlob is the largest file that a flow sees in place; of a larger one it sees name, size and digest.
	MaxInlineBlob = 256 << 10
	// MaxCursor is the largest cursor.
	MaxCursor = 64 << 10
	// MaxHint is the largest hint.
	MaxHint = 64 << 10
	// MaxHookBody is the largest webhook body that a trigger may ask for; DefaultHookBody is what it gets unasked.
	MaxHookBody     = 2 << 20
	DefaultHookBody = 1 << 20
	// MaxErrorDetail caps an error message on the wire: details travel in HTTP/2 trailers.
	MaxErrorDetail = 3 << 10
)

// Deadlines of the control calls, and pacing of streams.
const (
	StartTimeout     = 10 * time.Second
	DescribeTimeout  = 5 * time.Second
	ConfigureTimeout = 15 * time.Second
	CheckTimeout     = 60 * time.Second
	WebhookTimeout   = 2 * time.Second
	ProbeTimeout     = 2 * time.Second
	// PollSilence is how long a poll may bring nothing, neither a batch nor an Idle, until the host gives it up.
	PollSilence = 15 * time.Minute
	// RowFlush is the longest that a row waits in a chunk.
	RowFlush = 200 * time.Millisecond
)

// StateTrailer is the metadata key under which a call that ended in an error, or whose answer has no place for it, brings new
// connection state: what a failed call used up, such as a refresh token, is used up all the same.
const StateTrailer = "casewire-connection-state-bin"
