package engine

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/casewire/casewire/host/flow"
	"github.com/casewire/casewire/host/store"
	"github.com/casewire/casewire/plugin"
)

const (
	// maxDepth of calls.
	maxDepth = 8
	// maxTurns of a loop.
	maxTurns = 10_000
)

// reuse says which steps of a replay take their outputs from the run that it replays.
type reuse int

const (
	reuseNone  reuse = iota // past the step that the replay starts from
	reuseUntil              // those before it
	reuseAll                // a whole turn that is not the one with it
)

// body executes steps in order. need says that something after the last of them looks at the outputs.
func (r *runner) body(sc *scope, steps []*flow.Step, need bool) error {
	for i, s := range steps {
		path := sc.prefix + s.ID
		inner := sc.reuse
		if sc.reuse == reuseUntil {
			switch from := r.t.run.FromStep; {
			case path == from:
				sc.reuse, inner = reuseNone, reuseNone
			case strings.HasPrefix(from, path) && strings.ContainsAny(from[len(path):len(path)+1], "/["):
				sc.reuse, inner = reuseNone, reuseUntil // in here somewhere: descend
			}
		}
		if inner != reuseNone && sc.reuse != reuseNone && r.adopt(sc, s, path) {
			continue
		}
		if c := r.t.unwanted.Load(); c != nil {
			return &cancellation{reason: c.Reason}
		}
		v, err := r.step(sc, s, path, inner, need || i < len(steps)-1)
		if err != nil {
			return err
		}
		sc.bind(s, v)
	}
	return nil
}

// adopt takes a step over from the replayed run. What was begun there and not finished is left out: whoever replays from
// a later step wants to go on without it.
func (r *runner) adopt(sc *scope, s *flow.Step, path string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	rec, ok := r.parent[path]
	if !ok {
		return false
	}
	switch rec.State {
	case store.StepSucceeded, store.StepFailed, store.StepSkipped:
	case store.StepIntent, store.StepWaiting, store.StepParked:
		if sc.reuse == reuseAll {
			return false // another turn of the loop: not what was asked to be left out
		}
		rec.State, rec.Error = store.StepSkipped, "left out by the replay"
	}
	if rec.State == store.StepFailed && sc.reuse == reuseAll {
		return false
	}
	if rec.Action == "" && rec.Input != nil { // evaluateAgain
		return false // its actions are adopted one by one
	}
	v := absent
	if rec.State == store.StepSucceeded {
		var err error
		if v, err = decode(rec.Output); err != nil {
			return false
		}
	}
	if _, known := r.journal[path]; !known {
		r.seq++
		rec.Seq = r.seq
		r.noteLocked(rec)
	}
	sc.bind(s, v)
	return true
}

// step executes one step, or takes its outcome from the journal if it has one.
func (r *runner) step(sc *scope, s *flow.Step, path string, inner reuse, need bool) (any, error) {
	rec := r.record(path)
	switch rec.State {
	case store.StepSucceeded:
		if rec.Action == "" && rec.Input != nil { // evaluateAgain
			break
		}
		v, err := decode(rec.Output)
		if err != nil {
			return nil, failed(path, plugin.ClassBug, "step %q: output in the journal: %v", path, err)
		}
		return v, nil
	case store.StepSkipped:
		return absent, nil
	case store.StepFailed:
		return r.failedStep(s, &failure{step: path, class: plugin.Class(rec.Class), text: rec.Error})
	case store.StepParked:
		return nil, &parking{step: path, reason: rec.Error}
	case store.StepIntent, store.StepWaiting:
	}
	if rec.Started.IsZero() {
		rec.Started = time.Now()
	}
	v, err := r.kind(sc, s, path, inner, need, &rec)
	switch err := err.(type) { //nolint:errorlint // outcomes are never wrapped
	case nil:
		return v, nil
	case *failure:
		rec.State, rec.Error, rec.Class = store.StepFailed, err.text, string(err.class)
		rec.Ended, rec.NotBefore = time.Now(), time.Time{}
		r.note(rec)
		return r.failedStep(s, err)
	case *parking:
		rec.State, rec.Error, rec.Class = store.StepParked, err.reason, string(plugin.ClassUncertain)
		rec.Ended, rec.NotBefore = time.Now(), time.Time{}
		r.note(rec)
		return nil, err
	default:
		return nil, err
	}
}

// failedStep says what on_error makes of a failure.
func (r *runner) failedStep(s *flow.Step, f *failure) (any, error) {
	switch {
	case f.final:
	case s.OnError == flow.OnErrorContinue:
		return absent, nil
	case s.OnError == flow.OnErrorDeadLetter:
		f.final = true
	}
	return nil, f
}

func (r *runner) kind(sc *scope, s *flow.Step, path string, inner reuse, need bool, rec *store.Step) (any, error) {
	// A step that was begun passed its condition then.
	if s.If != nil && rec.State == "" {
		ok, err := r.e.test(s.If, sc.env)
		if err != nil {
			return nil, r.broken(path, "if", err)
		}
		if !ok {
			rec.State, rec.Ended = store.StepSkipped, time.Now()
			r.note(*rec)
			return absent, nil
		}
	}
	switch s.Kind {
	case flow.KindUses:
		return r.uses(sc, s, path, need, rec)
	case flow.KindLet:
		return r.let(sc, s, path, rec)
	case flow.KindCall:
		return r.callFlow(sc, s, path, inner, rec)
	case flow.KindEach:
		return r.each(sc, s, path, inner, rec)
	default:
		return nil, failed(path, plugin.ClassBug, "step %q: unknown kind %q", path, s.Kind)
	}
}

// succeed journals a step and its output.
func (r *runner) succeed(rec *store.Step, out json.RawMessage) {
	rec.State, rec.Output, rec.Ended = store.StepSucceeded, out, time.Now()
	rec.Error, rec.Class, rec.NotBefore = "", "", time.Time{}
	r.note(*rec)
}

// conclude journals a step that is made of expressions and other steps.
func (r *runner) conclude(rec *store.Step, part string, out any) (any, error) {
	if rec.State == store.StepSucceeded {
		return out, nil // evaluated again after a resume
	}
	raw, err := json.Marshal(out)
	if err != nil {
		return nil, r.broken(rec.Path, part, err)
	}
	if !plain(out) {
		rec.Input = evaluateAgain
	}
	r.succeed(rec, raw)
	return out, nil
}

func (r *runner) let(sc *scope, s *flow.Step, path string, rec *store.Step) (any, error) {
	vars := make(map[string]any, len(s.Let))
	for _, b := range s.Let {
		v, err := r.e.value(b.Value, sc.env)
		if err != nil {
			return nil, r.broken(path, "let "+b.Name, err)
		}
		vars[b.Name] = v
	}
	return r.conclude(rec, "let", vars)
}

// callFlow executes another flow's steps in place. What the call says about retries and timeouts holds for the callee's
// steps that say nothing themselves, so that a retry never repeats those that are finished.
func (r *runner) callFlow(sc *scope, s *flow.Step, path string, inner reuse, rec *store.Step) (any, error) {
	if sc.depth >= maxDepth {
		return nil, failed(path, plugin.ClassInvalid, "step %q: calls are nested deeper than %d", path, maxDepth)
	}
	v, err := r.e.object(s.With, sc.env)
	if err != nil {
		return nil, r.broken(path, "with", err)
	}
	in, problem := bindInputs(s.Call, v)
	if problem != "" {
		return nil, failed(path, plugin.ClassInvalid, "step %q: %s", path, problem)
	}
	callee := r.scope(in)
	callee.prefix, callee.depth, callee.reuse, callee.parallel = path+"/", sc.depth+1, inner, sc.parallel
	callee.retry = inherit(s.Retry, sc.retry)
	callee.timeout = s.Timeout
	if callee.timeout == 0 {
		callee.timeout = sc.timeout
	}
	if err := r.body(callee, s.Call.Steps, s.Call.Output != nil); err != nil {
		return nil, err
	}
	if s.Call.Output == nil {
		return r.conclude(rec, "output", nil)
	}
	out, err := r.output(callee, s.Call, path)
	if err != nil {
		return nil, err
	}
	return r.conclude(rec, "output", out)
}

// bindInputs matches what is given with the inputs that a flow declares.
func bindInputs(fl *flow.Flow, v any) (in map[string]any, problem string) {
	given, ok := v.(map[string]any)
	if !ok && v != nil {
		return nil, fmt.Sprintf("flow %q takes an object, not %T", fl.Name, v)
	}
	in = make(map[string]any, len(fl.Inputs))
	var wrong []string
	for name, decl := range fl.Inputs {
		x, ok := given[name]
		switch {
		case ok && x != nil:
			if !hasType(x, decl.Type) {
				wrong = append(wrong, fmt.Sprintf("input %q must be of type %s, not %T", name, decl.Type, x))
			}
			in[name] = x
		case decl.Required:
			wrong = append(wrong, fmt.Sprintf("input %q is required", name))
		default:
			in[name] = decl.Default
		}
	}
	for name := range given {
		if _, ok := fl.Inputs[name]; !ok {
			wrong = append(wrong, fmt.Sprintf("flow %q has no input %q", fl.Name, name))
		}
	}
	slices.Sort(wrong)
	return in, strings.Join(wrong, "; ")
}

func hasType(x any, typ string) bool {
	switch x := x.(type) {
	case string:
		return oneOf(typ, "string")
	case bool:
		return oneOf(typ, "boolean")
	case int, int64:
		return oneOf(typ, "integer", "number")
	case float64:
		return oneOf(typ, "number") || typ == "integer" && x == math.Trunc(x)
	case []any:
		return oneOf(typ, "array")
	case map[string]any:
		return oneOf(typ, "object")
	default:
		return true // a type of the host's own, such as a time: the checker knew it
	}
}

func oneOf(typ string, names ...string) bool {
	return typ == "" || typ == "any" || slices.Contains(names, typ)
}

// each runs the body once per item. The turns' outputs, in order, are its output.
func (r *runner) each(sc *scope, s *flow.Step, path string, inner reuse, rec *store.Step) (any, error) {
	v, err := r.e.value(s.For, sc.env)
	if err != nil {
		return nil, r.broken(path, "for", err)
	}
	items, err := list(v)
	if err != nil {
		return nil, r.broken(path, "for", err)
	}
	if len(items) > maxTurns {
		return nil, failed(path, plugin.ClassTooLarge, "step %q: a loop over %d items; the most is %d", path, len(items), maxTurns)
	}
	outs := make([]any, len(items))
	one := func(i int) (err error) {
		defer catch(&err)
		prefix := path + "[" + strconv.Itoa(i) + "]"
		turn := sc.turn(prefix+"/", items[i], i)
		turn.reuse, turn.parallel = inner, sc.parallel || s.Concurrency > 1
		if inner == reuseUntil && !strings.HasPrefix(r.t.run.FromStep, prefix+"/") {
			turn.reuse = reuseAll
		}
		if err := r.body(turn, s.Body, true); err != nil {
			return err
		}
		outs[i] = turnOutput(turn, s.Body)
		return nil
	}
	if err := turns(len(items), s.Concurrency, r.open(path), one); err != nil {
		if p, ok := err.(*panicked); ok { //nolint:errorlint // never wrapped
			return nil, r.broken(path, "body", p)
		}
		return nil, err
	}
	return r.conclude(rec, "output", outs)
}

// turnOutput is what a turn of a loop gives: the outputs of its steps by id; those without one are missing.
func turnOutput(turn *scope, body []*flow.Step) any {
	out := make(map[string]any, len(body))
	for _, s := range body {
		from := turn.steps
		if s.Kind == flow.KindLet {
			from = turn.env
		}
		if v, ok := from[s.ID]; ok {
			out[s.ID] = v
		}
	}
	return out
}

// open are the turns of a loop that an earlier lease began and did not finish.
func (r *runner) open(path string) map[int]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	var open map[int]bool
	for p, s := range r.journal {
		rest, ok := strings.CutPrefix(p, path+"[")
		if !ok || s.State == store.StepSucceeded || s.State == store.StepFailed || s.State == store.StepSkipped {
			continue
		}
		index, _, _ := strings.Cut(rest, "]")
		if i, err := strconv.Atoi(index); err == nil {
			if open == nil {
				open = map[int]bool{}
			}
			open[i] = true
		}
	}
	return open
}

// turns runs n turns, at most limit at once. After one that failed or parked only those go on that were open before: what
// became of their writes must be found out. A turn that waits holds back no other that may run beside it.
func turns(n, limit int, open map[int]bool, one func(int) error) error {
	if limit <= 1 || n <= 1 {
		for i := range n {
			if err := one(i); err != nil {
				return err
			}
		}
		return nil
	}
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		end  error
		stop bool
		next int
	)
	take := func() int {
		mu.Lock()
		defer mu.Unlock()
		for stop && next < n && !open[next] {
			next++
		}
		next++
		return next - 1
	}
	for range min(limit, n) {
		wg.Go(func() {
			for i := take(); i < n; i = take() {
				if err := one(i); err != nil {
					mu.Lock()
					end, stop = worse(end, err), stop || ended(err)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return end
}
