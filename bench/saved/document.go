package saved

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// ErrNotABench is matched by errors of files that are no bench's JSON.
var ErrNotABench = errors.New("not the JSON of a bench")

const (
	// maxDocument bounds a file, in bytes: hours of samples of hundreds of jobs take less.
	maxDocument = 256 << 20
	maxJobs     = 10_000
)

// Document is what one run of a bench left.
type Document struct {
	Label   string // how it is called in reports: its file's name, unless said otherwise
	Program string // "fio-3.33", "smbd-rdma 1.2"
	Own     bool   // written by this project's bench
	Time    time.Time
	Command string
	Machine []Option // facts about the machine and versions, in the order of their names
	Jobs    []*Job
}

// Option is a name and its value.
type Option struct{ Name, Value string }

// Open reads a file, - for standard input.
func Open(name string) (*Document, error) {
	if name == "-" {
		d, err := Read(os.Stdin)
		if err != nil {
			return nil, fmt.Errorf("standard input: %w", err)
		}
		d.Label = "standard input"
		return d, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	d.Label = name
	return d, nil
}

// Read reads a document. What comes before the first brace is passed over, as fio prints
// its warnings there.
func Read(r io.Reader) (*Document, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxDocument {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrNotABench, maxDocument)
	}
	start := 0
	for start < len(b) && b[start] != '{' {
		start++
	}
	var t struct {
		Version *string         `json:"fio version"`
		Stamp   int64           `json:"timestamp"`
		Global  ordered         `json:"global options"`
		Jobs    []rawJob        `json:"jobs"`
		Own     json.RawMessage `json:"smbd_rdma"`
	}
	if err := json.Unmarshal(b[start:], &t); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotABench, err)
	}
	switch {
	case t.Version == nil, len(t.Jobs) == 0:
		return nil, fmt.Errorf(`%w: no "fio version" or no "jobs"; run with --output-format=json`, ErrNotABench)
	case len(t.Jobs) > maxJobs:
		return nil, fmt.Errorf("%w: %d jobs, at most %d", ErrNotABench, len(t.Jobs), maxJobs)
	}
	d := &Document{Program: *t.Version, Time: time.Unix(t.Stamp, 0)}
	if len(t.Own) > 0 {
		var own struct {
			Machine  ordered `json:"machine"`
			Versions ordered `json:"versions"`
			Command  string  `json:"command"`
		}
		if err := json.Unmarshal(t.Own, &own); err != nil {
			return nil, fmt.Errorf("%w: smbd_rdma: %w", ErrNotABench, err)
		}
		d.Machine = append(own.Machine, own.Versions...)
		d.Command = own.Command
	}
	for i := range t.Jobs {
		j, err := t.Jobs[i].job(t.Global)
		if err != nil {
			return nil, fmt.Errorf("job %q: %w", t.Jobs[i].Name, err)
		}
		d.Own = d.Own || j.own
		d.Jobs = append(d.Jobs, j)
	}
	return d, nil
}

// ordered is a JSON object of scalars in the order of the text.
type ordered []Option

func (o *ordered) UnmarshalJSON(b []byte) error {
	dec := json.NewDecoder(newReader(b))
	dec.UseNumber()
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		if err == nil && t == nil {
			return nil // null
		}
		return fmt.Errorf("options are an object, not %v", t)
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return err
		}
		value, err := dec.Token()
		if err != nil {
			return err
		}
		if _, nested := value.(json.Delim); nested {
			return fmt.Errorf("option %v is not a single value", name)
		}
		text := ""
		if value != nil {
			text = fmt.Sprint(value)
		}
		*o = append(*o, Option{name.(string), text})
	}
	return nil
}
