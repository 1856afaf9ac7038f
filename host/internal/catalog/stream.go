package catalog

import (
	"context"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
)

// Stream keeps a trigger open from the cursor on, and hands batches to on as they come, as Poll does, until ctx ends or the
// connector ends the stream. With idle, the connector's signs of life in between are told: nil, or the passing fault that
// it waits out. It returns nil only when the connector ended the stream without an error; errors are *plugin.Error.
func (c *Catalog) Stream(ctx context.Context, connection, trigger string, cursor []byte,
	on func(context.Context, *connectorv1.Batch) error, idle func(*plugin.Error),
) error {
	return c.consume(ctx, consumption{
		connection: connection, trigger: trigger, cursor: cursor, on: on, idle: idle, verb: "stream of ",
		mode: connectorv1.ConsumeMode_CONSUME_MODE_STREAM,
	})
}
