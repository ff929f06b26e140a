package doctor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
)

// Outcome is what became of a step.
type Outcome string

// The outcomes.
const (
	// OK: nothing stands in the way of RDMA here.
	OK Outcome = "ok"
	// Problem: something does, or would for some client; Step.Change says what to do.
	Problem Outcome = "problem"
	// NotPossible: what the step needs is not there, as a device, or an earlier step.
	NotPossible Outcome = "not possible"
	// NotTried: the step was not asked for.
	NotTried Outcome = "not tried"
)

// IDs of steps. Those of fabrics have the name of one behind them: "connect.iwarp".
const (
	StepName       = "name"       // the addresses of the host
	StepDevices    = "devices"    // RDMA devices of this machine
	StepRoute      = "route"      // the way to the host, and the device on it
	StepPorts      = "ports"      // TCP ports of SMB over TCP and of iWARP
	StepConnect    = "connect."   // the RDMA connection, by a fabric
	StepSMBDirect  = "smbdirect." // the negotiation of SMB Direct, by a fabric
	StepDialect    = "dialect"    // the negotiation of SMB2
	StepLogon      = "logon"      // the session
	StepInterfaces = "interfaces" // what the server lists
	StepShare      = "share"      // the share
	StepProtection = "protection" // signing and encryption
	StepMove       = "move"       // from TCP to RDMA
	StepRDMA       = "io.rdma"    // a timed write and read by RDMA
	StepInline     = "io.inline"  // in messages of SMB Direct
	StepTCP        = "io.tcp"     // by TCP
	StepMemory     = "memory"     // registration, windows, invalidation
)

// Value is one thing that a step found out. Names are stable.
type Value struct {
	Name  string
	Value any // a string, number, bool or slice of strings

	quiet bool // not on the page for people: the summary has it, or few want it
}

// Values are printed in their order.
type Values []Value

// MarshalJSON writes one object.
func (vs Values) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, v := range vs {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(v.Name)
		if err != nil {
			return nil, err
		}
		val, err := json.Marshal(v.Value)
		if err != nil {
			return nil, fmt.Errorf("value %s: %w", v.Name, err)
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(val)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// Step is one step of the way.
type Step struct {
	ID      string  `json:"id"`
	Title   string  `json:"title"`
	Outcome Outcome `json:"outcome"`
	Summary string  `json:"summary"`
	// Change says what to do about a problem.
	Change  string  `json:"change,omitempty"`
	Values  Values  `json:"values"`
	Seconds float64 `json:"seconds"`

	began time.Time
}

// add notes a value.
func (s *Step) add(name string, v any) {
	if len(s.Values) < maxValues {
		s.Values = append(s.Values, Value{Name: name, Value: clean(v)})
	}
}

// quiet notes a value that is not on the page for people.
func (s *Step) quiet(name string, v any) {
	if len(s.Values) < maxValues {
		s.Values = append(s.Values, Value{name, clean(v), true})
	}
}

// end settles the step.
func (s *Step) end(o Outcome, format string, args ...any) {
	s.Outcome, s.Summary = o, cut(fmt.Sprintf(format, args...))
	s.Seconds = time.Since(s.began).Seconds()
}

// fail ends the step as a problem.
func (s *Step) fail(change, format string, args ...any) {
	s.end(Problem, format, args...)
	s.Change = cut(change)
}

// Report is the page.
type Report struct {
	Target string `json:"target"`
	// Used says whether file bytes go by RDMA.
	Used    bool   `json:"rdma_used"`
	Verdict string `json:"verdict"`
	// DecidedBy is the ID of the step that decided, Reason what it found, Change what
	// to do about it; empty if RDMA is used.
	DecidedBy string  `json:"decided_by,omitempty"`
	Reason    string  `json:"reason,omitempty"`
	Change    string  `json:"change,omitempty"`
	Steps     []*Step `json:"steps"`
}

// Bounds of a report, as servers have a say in it.
const (
	maxText   = 600 // characters of one text
	maxValues = 64  // of one step
	maxList   = 32  // strings in one value
)

// cut makes a text of bounded length that does nothing to a terminal.
func cut(s string) string {
	s = strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ")
	n := 0
	return strings.Map(func(r rune) rune {
		switch n++; {
		case n == maxText+1:
			return '…'
		case n > maxText:
			return -1
		case r == unicode.ReplacementChar || !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s)
}

// clean is cut for a value.
func clean(v any) any {
	switch v := v.(type) {
	case string:
		return cut(v)
	case []string:
		out := make([]string, 0, min(len(v), maxList))
		for i, s := range v {
			if i == maxList {
				break
			}
			out = append(out, cut(s))
		}
		return out
	case time.Duration:
		return v.Seconds()
	}
	return v
}

// width is the width of the page, in characters.
const width = 100

// Print writes the page for people.
func (r *Report) Print(w io.Writer) error {
	var b strings.Builder
	wrap(&b, "", r.Verdict)
	b.WriteByte('\n')
	for _, s := range r.Steps {
		indent := fmt.Sprintf("%-13s %-15s ", s.Outcome, s.ID)
		wrap(&b, indent, s.Summary)
		blank := strings.Repeat(" ", len(indent))
		if s.Change != "" {
			wrap(&b, blank, "To change that: "+s.Change)
		}
		var vs []string
		for _, v := range s.Values {
			if !v.quiet {
				vs = append(vs, strings.ReplaceAll(v.Name, "_", " ")+" "+show(v.Value))
			}
		}
		if len(vs) > 0 {
			wrap(&b, blank, strings.Join(vs, ", "))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// show is a value in the page.
func show(v any) string {
	switch v := v.(type) {
	case []string:
		if len(v) == 0 {
			return "none"
		}
		return strings.Join(v, " and ")
	case string:
		if v == "" {
			return "none"
		}
		return v
	case bool:
		if v {
			return "yes"
		}
		return "no"
	}
	return fmt.Sprint(v)
}

// wrap writes text in lines of width characters, of which the first begins with
// first and the others are indented as far.
func wrap(b *strings.Builder, first, text string) {
	line, n := first, len([]rune(first))
	indent, empty := strings.Repeat(" ", n), true
	for word := range strings.FieldsSeq(text) {
		k := len([]rune(word))
		if !empty && n+1+k > width {
			b.WriteString(line + "\n")
			line, n, empty = indent, len(indent), true
		}
		if !empty {
			line += " "
			n++
		}
		line += word
		n += k
		empty = false
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
}
