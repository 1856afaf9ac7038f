package engine

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/casewire/casewire/host/flow"
)

// evaluator is how the engine evaluates what flow compiled.
type evaluator interface {
	Test(x *flow.Expr, env flow.Env) (bool, error)
	Eval(v *flow.Value, env flow.Env) (any, error)
}

type compiled struct{}

func (compiled) Test(x *flow.Expr, env flow.Env) (bool, error) { return x.Test(env) }
func (compiled) Eval(v *flow.Value, env flow.Env) (any, error) { return v.Eval(env) }

// panicked is the error of a panic inside an evaluation or a call.
type panicked struct{ value any }

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v", p.value) }

func catch(err *error) {
	if v := recover(); v != nil {
		*err = &panicked{v}
	}
}

func (e *Engine) test(x *flow.Expr, env flow.Env) (ok bool, err error) {
	defer catch(&err)
	return e.eval.Test(x, env)
}

func (e *Engine) value(v *flow.Value, env flow.Env) (x any, err error) {
	defer catch(&err)
	return e.eval.Eval(v, env)
}

// object evaluates the input of an action or of a call. No value at all is the empty object.
func (e *Engine) object(v *flow.Value, env flow.Env) (x any, err error) {
	if v == nil {
		return map[string]any{}, nil
	}
	x, err = e.value(v, env)
	if x == nil && err == nil {
		x = map[string]any{}
	}
	return x, err
}

// decode reads JSON as expressions see it; nothing is null.
func decode(raw json.RawMessage) (any, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	v, err := flow.Decode(raw)
	if err != nil {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	return v, nil
}

// evaluateAgain stands as the input of a let, call or each step whose output JSON cannot give back as it was, because it
// holds times, durations or the like. After a resume such a step is evaluated again; the actions inside it are not.
var evaluateAgain = json.RawMessage(`{"evaluate_again":true}`)

// plain says whether JSON gives the value back as it is.
func plain(v any) bool {
	switch v := v.(type) {
	case nil, bool, string, int, float64, json.Number:
		return true
	case map[string]any:
		for _, x := range v {
			if !plain(x) {
				return false
			}
		}
		return true
	case []any:
		for _, x := range v {
			if !plain(x) {
				return false
			}
		}
		return true
	default:
		return false
	}
}

// list is the items that a loop runs over.
func list(v any) ([]any, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case []any:
		return v, nil
	}
	rv := reflect.ValueOf(v)
	if k := rv.Kind(); k != reflect.Slice && k != reflect.Array {
		return nil, fmt.Errorf("for needs a list, not %T", v)
	}
	items := make([]any, rv.Len())
	for i := range items {
		items[i] = rv.Index(i).Interface()
	}
	return items, nil
}

// keyText is an idempotency key as text. Nothing, and what is not one value, is no key.
func keyText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, v != ""
	case bool, int, int64, float64, json.Number:
		return fmt.Sprint(v), true
	default:
		return "", false
	}
}

// absent is the output of a step that was skipped, or that failed and was passed over: later steps do not see it.
var absent any = missing{}

type missing struct{}
