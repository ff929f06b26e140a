package filecopy

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/server/vfs/posix"
)

// What Sync does with each file, both ways, and that it then has nothing to do.
func TestSync(t *testing.T) {
	old, now := time.Unix(1e9, 0), time.Unix(1.1e9, 0)
	type file struct {
		data string
		mod  time.Time
	}
	dir := file{data: "/"}
	for _, c := range []struct {
		name     string
		from, to map[string]file
		o        SyncOptions
		filter   Filter
		want     []string // action and name below the target
		tree     []string // of the target, afterwards
	}{
		{
			name: "new and changed", from: map[string]file{"new": {"n", old}, "same": {"s", old}, "longer": {"ll", old}, "newer": {"x", now}},
			to:   map[string]file{"same": {"s", old}, "longer": {"l", old}, "newer": {"y", old}, "extra": {"e", old}},
			want: []string{"copy longer", "copy new", "copy newer", "skip same"}, tree: []string{"new", "same", "longer", "newer", "extra"},
		},
		{
			name: "delete", from: map[string]file{"a/f": {"f", old}}, to: map[string]file{"a/f": {"f", old}, "a/g": {"g", old}, "b/c/d": {"d", old}},
			o: SyncOptions{Delete: true}, want: []string{"delete a/g", "delete b", "skip a/f"}, tree: []string{"a/", "a/f"},
		},
		{
			name: "delete, dry", from: map[string]file{"n/m": {"m", old}, "f": {"f", now}}, to: map[string]file{"f": {"f", old}, "g": {"g", old}},
			o: SyncOptions{Delete: true, DryRun: true}, want: []string{"copy f", "copy n/m", "delete g", "mkdir n"}, tree: []string{"f", "g"},
		},
		{
			name: "what is excluded stays", from: map[string]file{"f": {"f", old}}, to: map[string]file{"x.keep": {"x", old}, "d/y.keep": {"y", old}, "d/z": {"z", old}},
			o: SyncOptions{Delete: true}, filter: Filter{Exclude: []string{"*.keep"}},
			want: []string{"copy f", "delete d/z"}, tree: []string{"f", "x.keep", "d/", "d/y.keep"},
		},
		{
			name: "checksum", from: map[string]file{"touched": {"t", now}, "changed": {"a", old}, "same": {"s", old}},
			to: map[string]file{"touched": {"t", old}, "changed": {"b", old}, "same": {"s", old}},
			o:  SyncOptions{Checksum: true}, want: []string{"copy changed", "skip same", "time touched"}, tree: []string{"touched", "changed", "same"},
		},
		{
			name: "size only", from: map[string]file{"f": {"a", now}}, to: map[string]file{"f": {"b", old}},
			o: SyncOptions{SizeOnly: true}, want: []string{"skip f"}, tree: []string{"f"},
		},
		{
			name: "window", from: map[string]file{"f": {"a", old.Add(2 * time.Second)}, "g": {"a", old.Add(3 * time.Second)}},
			to: map[string]file{"f": {"a", old}, "g": {"a", old}},
			o:  SyncOptions{Window: 2 * time.Second}, want: []string{"copy g", "skip f"}, tree: []string{"f", "g"},
		},
		{
			name: "a directory in the way", from: map[string]file{"x": {"f", old}}, to: map[string]file{"x/y": {"y", old}},
			want: []string{"failed copy x"}, tree: []string{"x/", "x/y"},
		},
		{
			name: "a directory in the way, delete", from: map[string]file{"x": {"f", old}}, to: map[string]file{"x/y": {"y", old}},
			o: SyncOptions{Delete: true}, want: []string{"copy x", "delete x"}, tree: []string{"x"},
		},
		{
			name: "a file in the way, delete", from: map[string]file{"x/y": {"f", old}}, to: map[string]file{"x": {"y", old}},
			o: SyncOptions{Delete: true}, want: []string{"copy x/y", "delete x"}, tree: []string{"x/", "x/y"},
		},
		{
			name: "an empty directory", from: map[string]file{"d": dir}, to: nil, want: nil, tree: []string{"d/"},
		},
		{
			name: "what is not whole belongs to others", from: nil, to: map[string]file{tempPrefix + "x": {"", old}},
			o: SyncOptions{Delete: true}, want: nil, tree: []string{tempPrefix + "x"},
		},
	} {
		for _, d := range directions {
			t.Run(d.name+"/"+c.name, func(t *testing.T) {
				s := newSite(t, posix.Config{CaseSensitive: true})
				for root, files := range map[string]map[string]file{d.from: c.from, d.to: c.to} {
					if err := os.MkdirAll(s.file(root), 0o777); err != nil {
						t.Fatal(err)
					}
					for n, f := range files {
						if f == dir {
							if err := os.MkdirAll(s.file(root+"/"+n), 0o777); err != nil {
								t.Fatal(err)
							}
							continue
						}
						s.write(root+"/"+n, []byte(f.data))
						if err := os.Chtimes(s.file(root+"/"+n), f.mod, f.mod); err != nil {
							t.Fatal(err)
						}
					}
				}
				sync := func(k *Copier) error { return k.Sync(t.Context(), c.o) }
				cfg := Config{Filter: c.filter}
				rs, err := s.run(s.place(d.from), s.place(d.to), cfg, sync)
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				base := s.place(d.to).Path("")
				for _, r := range rs {
					what := string(r.Action) + " " + r.To[len(base)+1:]
					if r.Err != nil {
						what = "failed " + what
					}
					if r.Planned != (c.o.DryRun && r.Action != ActionSkip) {
						t.Errorf("%s: planned is %v", what, r.Planned)
					}
					got = append(got, what)
				}
				slices.Sort(got)
				if !slices.Equal(got, c.want) {
					t.Errorf("did %q, want %q", got, c.want)
				}
				s.wantTree(d.to, c.tree...)
				if c.o.DryRun || len(got) > 0 && got[0] == "failed copy x" {
					return
				}
				for n, f := range c.from {
					if f != dir && !c.o.SizeOnly && c.o.Window == 0 {
						s.wantFile(d.to+"/"+n, []byte(f.data))
					}
				}
				for _, r := range s.must(s.place(d.from), s.place(d.to), cfg, sync) {
					if r.Action != ActionSkip {
						t.Errorf("again: %+v", r)
					}
				}
			})
		}
	}
}

// Where case has no meaning a file is the same by another spelling, and is not deleted.
func TestSyncWithoutCase(t *testing.T) {
	s := newSite(t, posix.Config{})
	s.write("local:from/Readme", []byte("new text"))
	s.write("share:to/README", []byte("old"))
	s.must(s.place("local:from"), s.place("share:to"), Config{}, func(k *Copier) error {
		return k.Sync(t.Context(), SyncOptions{Delete: true})
	})
	l, err := os.ReadDir(s.file("share:to"))
	if err != nil || len(l) != 1 {
		t.Fatalf("%v, %v", l, err)
	}
	s.wantFile("share:to/"+l[0].Name(), []byte("new text"))
}
