package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"testing"
)

// Whatever is done to a file between them, short reads in a row give what the file has.
func TestReadAheadSeesOwnChanges(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		name string
		link linkConfig
		cfg  Config
	}{
		{"inline", linkConfig{}, Config{}},
		{"rdma", linkConfig{rdma: true}, Config{}},
		{"encrypted rdma", linkConfig{rdma: true}, Config{Encryption: EncryptRequired}},
		{"few credits", linkConfig{}, Config{MaxCredits: 4}},
		{"few registrations", linkConfig{rdma: true, registrations: 2}, Config{ReadAhead: 64 << 20}},
		{"least", linkConfig{}, Config{ReadAhead: 1}},
		{"off", linkConfig{}, Config{ReadAhead: -1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			sh := newSite(t, c.link, nil).mount(t, c.cfg)
			want := random(3<<20 + 999)
			must(t, sh.WriteFile(ctx, "f", want, 0o666))
			f, err := sh.OpenFile(ctx, "f", os.O_RDWR, 0)
			must(t, err)
			r := rand.New(rand.NewPCG(1, 2))
			pos := 0
			for range 400 {
				switch r.IntN(20) {
				case 0:
					pos = r.IntN(len(want) + 1)
					_, err := f.Seek(int64(pos), io.SeekStart)
					must(t, err)
				case 1:
					p := []byte{byte(r.Uint32()), byte(r.Uint32())}
					at := min(pos+r.IntN(1<<20), len(want)-2)
					copy(want[at:], p)
					_, err := f.WriteAt(p, int64(at))
					must(t, err)
				case 2:
					want = want[:len(want)-r.IntN(100)]
					must(t, f.Truncate(ctx, int64(len(want))))
				case 3:
					at := min(pos+r.IntN(1<<20), len(want)-1000)
					clear(want[at : at+1000])
					must(t, f.ZeroRange(ctx, int64(at), 1000))
				default:
					p := make([]byte, 1+r.IntN(100_000))
					n, err := f.Read(p)
					left := len(want) - min(pos, len(want))
					if n == 0 && err == io.EOF && left == 0 {
						pos = 0
						_, err := f.Seek(0, io.SeekStart)
						must(t, err)
						continue
					}
					if err != nil || n == 0 || n > left || !bytes.Equal(p[:n], want[pos:pos+n]) {
						t.Fatalf("%d bytes at %d, %d are left: %v", n, pos, left, err)
					}
					pos += n
				}
			}
			must(t, f.Close())
			if n := sh.Session().TransportStats().Registrations; n != 0 {
				t.Errorf("%d registrations left", n)
			}
		})
	}
}

// What is read ahead is read in large pieces, and only where a file is read in a row.
func TestReadAheadRequests(t *testing.T) {
	ctx := context.Background()
	data := random(4 << 20)
	for _, c := range []struct {
		name string
		cfg  Config
		read func(f *File) error
		want func(reads uint64) bool
	}{
		{"in a row", Config{}, func(f *File) error {
			got, err := io.ReadAll(struct{ io.Reader }{f}) // without WriteTo
			if err == nil && !bytes.Equal(got, data) {
				err = errors.New("not what was written")
			}
			return err
		}, func(n uint64) bool { return n <= 16+16 }}, // 256 KiB each, and those at the start and the end
		{"switched off", Config{ReadAhead: -1}, func(f *File) error {
			_, err := io.CopyN(io.Discard, struct{ io.Reader }{f}, 1<<20)
			return err
		}, func(n uint64) bool { return n >= 1<<20/32768 }}, // io.Copy's buffer
		{"here and there", Config{}, func(f *File) error {
			p := make([]byte, 100)
			for i := range 50 {
				if _, err := f.Seek(int64(i*70_000%(4<<20-100)), io.SeekStart); err != nil {
					return err
				}
				if _, err := f.Read(p); err != nil {
					return err
				}
			}
			return nil
		}, func(n uint64) bool { return n == 50 }},
		{"WriteTo", Config{}, func(f *File) error {
			var b bytes.Buffer
			_, err := f.WriteTo(&b)
			if err == nil && !bytes.Equal(b.Bytes(), data) {
				err = errors.New("not what was written")
			}
			return err
		}, func(n uint64) bool { return n <= 8 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			sh := newSite(t, linkConfig{}, nil).mount(t, c.cfg)
			must(t, sh.WriteFile(ctx, "f", data, 0o666))
			f, err := sh.Open(ctx, "f")
			must(t, err)
			before := sh.Session().Stats().InlineReads
			must(t, c.read(f))
			if n := sh.Session().Stats().InlineReads - before; !c.want(n) {
				t.Errorf("%d READ requests", n)
			}
			must(t, f.Close())
		})
	}
}

// What others append is seen by who has come to the end.
func TestReadBehindTheEnd(t *testing.T) {
	ctx := context.Background()
	sh := newSite(t, linkConfig{}, nil).mount(t, Config{})
	must(t, sh.WriteFile(ctx, "f", random(10_000), 0o666))
	f, err := sh.Open(ctx, "f")
	must(t, err)
	p := make([]byte, 1000)
	for {
		if _, err := f.Read(p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	other, err := sh.OpenFile(ctx, "f", os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = other.WriteString("more")
	must(t, err)
	if n, err := f.Read(p); string(p[:n]) != "more" || err != nil {
		t.Errorf("%q, %v", p[:n], err)
	}
	must(t, other.Close())
	must(t, f.Close())
}

// Closing the file, or the session, while something is being read ahead leaves nothing
// behind; and a context that has ended is an error at once.
func TestReadAheadEnds(t *testing.T) {
	ctx := context.Background()
	for _, what := range []string{"file", "session", "logoff"} {
		t.Run(what, func(t *testing.T) {
			sh := newSite(t, linkConfig{}, nil).mount(t, Config{ReadAhead: 8 << 20})
			must(t, sh.WriteFile(ctx, "f", random(16<<20), 0o666))
			f, err := sh.Open(ctx, "f")
			must(t, err)
			p := make([]byte, 100_000)
			for range 20 {
				_, err := f.Read(p)
				must(t, err)
			}
			over, cancel := context.WithCancel(ctx)
			cancel()
			if _, err := f.ReadContext(over, make([]byte, 10<<20)); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			for range 20 {
				_, err := f.Read(p)
				must(t, err)
			}
			switch what {
			case "file":
				must(t, f.Close())
				if _, err := f.Read(p); !errors.Is(err, fs.ErrClosed) {
					t.Error(err)
				}
			case "session":
				must(t, sh.Session().Close())
			case "logoff":
				must(t, sh.Session().Logoff(ctx))
			}
			sh.Session().aheads.Range(func(any, any) bool { t.Error("something is kept that was read ahead"); return true })
		})
	}
}
