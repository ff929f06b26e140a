package filecopy

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
	"sync"
)

const (
	// continueFrom is the size in bytes from which a file is worth a journal.
	continueFrom = 4 * chunk
	// journalStep is after how many bytes the journal is brought up to date, which
	// waits for stable storage.
	journalStep = 128 << 20
)

// marks knows which bytes of a file are done.
type marks struct {
	mu   sync.Mutex
	from int64           // where the work began; does not change once it has
	low  int64           // all before it are done; guarded by mu
	ends map[int64]int64 // what is done beyond it, by its start; guarded by mu
}

// begin sets where the work begins.
func (m *marks) begin(from int64) { m.from, m.low = from, from }

// done says that all from start to end is done, which touches nothing that was before.
func (m *marks) done(start, end int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if start != m.low {
		if m.ends == nil {
			m.ends = make(map[int64]int64)
		}
		m.ends[start] = end
		return
	}
	for ok := true; ok; end, ok = m.ends[m.low] {
		delete(m.ends, m.low)
		m.low = end
	}
}

// lowest is up to where all is done.
func (m *marks) lowest() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.low
}

// partialName is what a file is called while it is not whole. It is of the same source
// only: of one name, size and time.
func partialName(from, rel string, e Entry) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %d %d", from, rel, e.Size, e.Mod.UnixNano()))
	return tempPrefix + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:20])
}

// journal says beside a file that is not whole how much of it is on stable storage.
// Its methods do nothing for a nil *journal.
type journal struct {
	w Writer

	mu    sync.Mutex // held while it is written, and what it says made true
	saved int64      // guarded by mu
}

// recordSize is the size of a journal, one line of text filled with spaces. A line that
// was written in part has another checksum.
const recordSize = 128

func record(size, mod, done int64) []byte {
	text := fmt.Sprintf("smbd-rdma-journal 1 %d %d %d", size, mod, done)
	text += fmt.Sprintf(" %08x", crc32.ChecksumIEEE([]byte(text)))
	return fmt.Appendf(nil, "%-*s\n", recordSize-1, text)
}

// recorded is the third number of a record that is whole and has the first two; else 0.
func recorded(b []byte, size, mod int64) int64 {
	var s, m, done int64
	if n, _ := fmt.Sscanf(string(b), "smbd-rdma-journal 1 %d %d %d", &s, &m, &done); n != 3 || s != size || m != mod ||
		done < 0 || done > size || string(b) != string(record(size, mod, done)) {
		return 0
	}
	return done
}

// openJournal finds out where to go on, tells marks, and has the file end there.
func openJournal(ctx context.Context, t *task, temp string) (*journal, error) {
	w, err := t.c.to.Create(ctx, t.rel, temp+".journal", true)
	if err != nil {
		return nil, err
	}
	j := &journal{w: w}
	from, err := j.find(ctx, t)
	if err == nil {
		err = j.save(ctx, t, from)
	}
	if err == nil {
		// What is beyond it may be anything.
		err = t.dst.Truncate(ctx, from)
	}
	if err != nil {
		w.Abort(ctx, true)
		return nil, err
	}
	t.marks.begin(from)
	return j, nil
}

// find is up to where what is there is the source's.
func (j *journal) find(ctx context.Context, t *task) (int64, error) {
	b := make([]byte, recordSize)
	n, err := j.w.ReadAt(ctx, b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	from := recorded(b[:n], t.e.Size, t.e.Mod.UnixNano())
	if from == 0 {
		return 0, nil
	}
	if have, err := t.dst.Size(ctx); err != nil || have < from {
		return 0, err
	}
	// That the journal is of this file is seen at its end.
	tail := min(from, chunk/2)
	p, err := t.c.buffer(ctx)
	if err != nil {
		return 0, err
	}
	defer t.c.free(p)
	x, y := (*p)[:tail], (*p)[tail:2*tail]
	if err := errors.Join(readFull(ctx, t.src, x, from-tail), readFull(ctx, t.dst, y, from-tail)); err != nil {
		if errors.Is(err, errDiffer) {
			return 0, nil
		}
		return 0, err
	}
	if string(x) != string(y) {
		return 0, nil
	}
	return from, nil
}

// save has what is done on stable storage, and then says so.
func (j *journal) save(ctx context.Context, t *task, done int64) error {
	if done > 0 {
		if err := t.dst.Sync(ctx); err != nil {
			return err
		}
	}
	if _, err := j.w.WriteAt(ctx, record(t.e.Size, t.e.Mod.UnixNano(), done), 0); err != nil {
		return err
	}
	j.saved = done
	return nil
}

// progress brings the journal up to date if it is time.
func (j *journal) progress(ctx context.Context, t *task) error {
	if j == nil || !j.mu.TryLock() { // who has it looks again after the next piece
		return nil
	}
	defer j.mu.Unlock()
	low := t.marks.lowest()
	if low-j.saved < journalStep {
		return nil
	}
	return j.save(ctx, t, low)
}

// rescue brings the journal up to date after a failure, and reports whether there is
// something to go on with.
func (j *journal) rescue(ctx context.Context, t *task) bool {
	if j == nil {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if low := t.marks.lowest(); low > j.saved && t.c.to.Lost() == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanup)
		defer cancel()
		_ = j.save(ctx, t, low) // else it says what it said before
	}
	return j.saved > 0
}

func (j *journal) close(ctx context.Context, keep bool) {
	if j != nil {
		j.w.Abort(ctx, keep)
	}
}
