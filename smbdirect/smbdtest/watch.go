package smbdtest

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// watch plays cases, and sees before each that the acceptor under test is there.
type watch struct {
	tg   Target
	last string // the latest case that was played
	gone bool   // nothing was answered since
}

// run plays c if the acceptor is there.
func (w *watch) run(ctx context.Context, c Case) Result {
	if c.Role == Acceptor {
		start := time.Now()
		if err := w.answers(ctx); err != nil && ctx.Err() == nil {
			why := err.Error()
			if w.last != "" {
				why = fmt.Sprintf("the server does not answer since %s: %s", w.last, why)
			}
			w.gone = true
			return Result{Case: c, Outcome: NotRun, Why: why, Elapsed: time.Since(start)}
		}
	}
	w.last, w.gone = c.Name, false
	return RunCase(ctx, w.tg, c)
}

// answers waits until the server negotiates SMB Direct: for Times.Patience, as it may
// come back, but only for Times.React where it was gone before.
func (w *watch) answers(ctx context.Context) error {
	times := w.tg.Times.withDefaults(Acceptor)
	patience := times.Patience
	if w.gone {
		patience = times.React
	}
	end := time.Now().Add(patience)
	for {
		err := w.try(ctx, times.React)
		if err == nil || !time.Now().Before(end) {
			return err
		}
		pause := time.NewTimer(times.React / 5)
		select {
		case <-ctx.Done():
			pause.Stop()
			return context.Cause(ctx)
		case <-pause.C:
		}
	}
}

// try is one connection with the usual values. d is for the connection, and for the
// negotiation again.
func (w *watch) try(ctx context.Context, d time.Duration) error {
	p, err := NewPeer(ctx, w.tg.Adapter, PeerConfig{})
	if err != nil {
		return err
	}
	defer p.Close()
	p.stop = ctx.Done()
	within, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	if err := p.Connect(within, w.tg.Address); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no connection within %v: %w", d, err)
		}
		return err
	}
	if _, _, err := NewStream(p).Negotiate(Request(), d); err != nil {
		return fmt.Errorf("no Negotiate Response: %w", err)
	}
	return nil
}
