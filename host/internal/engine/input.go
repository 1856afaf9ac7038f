package engine

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/casewire/casewire/host/flow"
)

// CheckInput says what is wrong with the input of a run that is to be started from outside, as the run itself would.
func CheckInput(fl *flow.Flow, input json.RawMessage) error {
	v, err := decode(input)
	if err != nil {
		return fmt.Errorf("the input is no JSON: %w", err)
	}
	if _, problem := bindInputs(fl, v); problem != "" {
		return errors.New(problem)
	}
	return nil
}
