package simulate

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/smbd-rdma/smbd-rdma/fuzz/minimise"
	"github.com/smbd-rdma/smbd-rdma/fuzz/model"
)

// law is the law that an error names, 0 for an error of the run as a whole.
func law(err error) model.Law {
	if v, ok := errors.AsType[*model.Violation](err); ok {
		return v.Law
	}
	return 0
}

// Minimise returns a scenario with fewer and smaller actions that breaks the same
// law as s, which must fail. It runs at most budget scenarios.
func Minimise(s Scenario, budget int) Scenario { return shrink(s, Run, budget) }

func shrink(s Scenario, run func(Scenario) Result, budget int) Scenario {
	want := law(run(s).Err)
	fails := func(actions []Action) bool {
		try := s
		try.Actions = actions
		err := run(try).Err
		return err != nil && law(err) == want
	}
	s.Actions = minimise.List(s.Actions, fails, budget/2)
	minimise.Numbers(s.Actions, func(a *Action) []*int64 {
		if a.Op == Mutate || a.Op == Speak {
			return nil // bits, not sizes
		}
		return []*int64{&a.N}
	}, fails, budget/2)
	return s
}

// Save writes a scenario to a file, an action a line.
func (s Scenario) Save(path string) error {
	b := []byte(fmt.Sprintf("{\"Seed\": %d,\n\"Ends\": ", s.Seed))
	ends, err := json.Marshal(s.Ends)
	if err != nil {
		return err
	}
	b = append(append(b, ends...), ",\n\"Actions\": ["...)
	for i, a := range s.Actions {
		line, err := json.Marshal(a)
		if err != nil {
			return err
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, '\n'), line...)
	}
	return os.WriteFile(path, append(b, "\n]}\n"...), 0o644)
}

// Load reads what Save wrote.
func Load(path string) (Scenario, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Scenario{}, err
	}
	var s Scenario
	if err := json.Unmarshal(b, &s); err != nil {
		return Scenario{}, fmt.Errorf("scenario %s: %w", path, err)
	}
	return s, nil
}
