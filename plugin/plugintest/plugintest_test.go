package plugintest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"

	"github.com/casewire/casewire/plugin"
	"github.com/casewire/casewire/plugin/connectorv1"
	"github.com/casewire/casewire/plugin/plugintest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// funcs is a connector made of functions.
type funcs struct {
	connectorv1.UnimplementedConnectorServer
	check  func(context.Context) (*connectorv1.CheckResponse, error)
	invoke func(*connectorv1.InvokeRequest, connectorv1.Connector_InvokeServer) error
}

func (f *funcs) Check(ctx context.Context, _ *connectorv1.CheckRequest) (*connectorv1.CheckResponse, error) {
	return f.check(ctx)
}

func (f *funcs) Invoke(r *connectorv1.InvokeRequest, s connectorv1.Connector_InvokeServer) error {
	return f.invoke(r, s)
}

func invoke(t *testing.T, c connectorv1.ConnectorClient, input []byte) (*connectorv1.InvokeResponse, error) {
	t.Helper()
	s, err := c.Invoke(t.Context(), &connectorv1.InvokeRequest{Action: "x", Input: input})
	if err != nil {
		return nil, err
	}
	first, err := s.Recv()
	if err != nil {
		return nil, err
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		return nil, err
	}
	return first, nil
}

func TestHandlersReturnPlainErrors(t *testing.T) {
	t.Parallel()
	want := &plugin.Error{Code: codes.NotFound, Message: "no such issue", Origin: plugin.OriginDownstream, SideEffect: plugin.EffectNone}
	c := plugintest.Join(t, &funcs{
		check:  func(context.Context) (*connectorv1.CheckResponse, error) { return nil, want },
		invoke: func(*connectorv1.InvokeRequest, connectorv1.Connector_InvokeServer) error { return want },
	})
	_, err := c.Check(t.Context(), &connectorv1.CheckRequest{})
	_, serr := invoke(t, c, nil)
	for _, err := range []error{err, serr} {
		if e := plugin.FromError(err); e.Code != want.Code || e.Origin != want.Origin || e.SideEffect != want.SideEffect || e.Message != want.Message {
			t.Errorf("got %+v", e)
		}
	}
}

func TestPanicIsAnAnswer(t *testing.T) {
	t.Parallel()
	c := plugintest.Join(t, &funcs{
		check: func(context.Context) (*connectorv1.CheckResponse, error) { panic("check") },
		invoke: func(*connectorv1.InvokeRequest, connectorv1.Connector_InvokeServer) error {
			panic(errors.New("invoke"))
		},
	})
	_, err := c.Check(t.Context(), &connectorv1.CheckRequest{})
	_, serr := invoke(t, c, nil)
	for _, err := range []error{err, serr} {
		e := plugin.FromError(err)
		if e.Code != codes.Internal || e.Reason != plugin.ReasonPanic || e.Origin != plugin.OriginPlugin || e.SideEffect != plugin.EffectUnknown {
			t.Errorf("got %+v", e)
		}
	}
	if _, err := c.Check(t.Context(), &connectorv1.CheckRequest{}); plugin.FromError(err).Reason != plugin.ReasonPanic {
		t.Errorf("after a panic: %v", err)
	}
}

func TestOversizeAnswerIsTyped(t *testing.T) {
	t.Parallel()
	big := bytes.Repeat([]byte(" "), plugin.MaxSend+1)
	c := plugintest.Join(t, &funcs{
		check: func(context.Context) (*connectorv1.CheckResponse, error) {
			return &connectorv1.CheckResponse{ConnectionState: big}, nil
		},
		invoke: func(_ *connectorv1.InvokeRequest, s connectorv1.Connector_InvokeServer) error {
			return s.Send(&connectorv1.InvokeResponse{Kind: &connectorv1.InvokeResponse_Result{Result: &connectorv1.Result{Output: big}}})
		},
	})
	_, err := c.Check(t.Context(), &connectorv1.CheckRequest{})
	_, serr := invoke(t, c, nil)
	for _, err := range []error{err, serr} {
		e := plugin.FromError(err)
		if e.Code != codes.OutOfRange || e.Reason != plugin.ReasonTooLarge || e.Class() != plugin.ClassTooLarge {
			t.Errorf("got %+v", e)
		}
	}
}

func TestInputAtTheLimitArrives(t *testing.T) {
	t.Parallel()
	c := plugintest.Join(t, &funcs{invoke: func(r *connectorv1.InvokeRequest, s connectorv1.Connector_InvokeServer) error {
		return s.Send(&connectorv1.InvokeResponse{Kind: &connectorv1.InvokeResponse_Result{Result: &connectorv1.Result{Output: r.GetInput()}}})
	}})
	in := bytes.Repeat([]byte("x"), plugin.MaxInput)
	out, err := invoke(t, c, in)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.GetResult().GetOutput(), in) {
		t.Error("the input changed on its way")
	}
}
