// Package host is the embeddable Casewire host: it loads connectors as processes of their own, takes events in from polls
// and webhooks, and runs flows for them. Casewire, the binary, is this package with a configuration file around it.
//
// What it promises: an event that was accepted is on disk; one object makes one case however often it arrives; every run
// ends with a reason that people can read; a connector cannot hurt the host.
//
//	st, err := sqlite.Open(ctx, "casewire.db", sqlite.Options{})
//	h, err := host.New(host.Options{Store: st, Connectors: …, Connections: …})
//	flows, diags := flow.Load(sources, h)
//	err = h.SetFlows(ctx, flows)
//	err = h.Start(ctx)
//	http.Handle("/hooks/", webhook.Handler(h, webhook.Options{}))
//	defer h.Stop(ctx)
package host
