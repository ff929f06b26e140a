package filecopy

import (
	"crypto/rand"
	"fmt"
	"hash/maphash"
	"strings"
)

// tempPrefix begins the names of files that are not whole.
const tempPrefix = ".smbd-rdma-"

// newTemp is a name that nobody else has.
func newTemp() string { return tempPrefix + rand.Text()[:12] }

// caseProbe is a pair of such names that differ only in case.
func caseProbe() (lower, upper string) {
	lower = strings.ToLower(newTemp())
	return lower, strings.ToUpper(lower)
}

// Names are remembered by hashes: of how they are spelled, and of what they are where
// case has no meaning.
var exactSeed, foldSeed = maphash.MakeSeed(), maphash.MakeSeed()

// maxNames bounds how many names a directory may list.
const maxNames = 1 << 24

// folded is a name as it is where case has no meaning.
func folded(name string) string { return strings.ToUpper(name) }

// listed notes a name of the source. A directory in which one comes twice, or too many,
// may have no end.
func (w *walk) listed(n *node, name string) error {
	if n.names == nil {
		n.names = make(map[uint64]struct{})
	}
	h := maphash.String(exactSeed, name)
	if _, twice := n.names[h]; twice {
		return fmt.Errorf("%s: lists %q twice", w.c.from.Path(n.rel), name)
	}
	if len(n.names) >= 2*maxNames {
		return fmt.Errorf("%s: lists more than %d names", w.c.from.Path(n.rel), maxNames)
	}
	n.names[h] = struct{}{}
	return nil
}

// name finds out why an entry can't have its name in the target: because there is no
// such name there, or because another one is the same there.
func (w *walk) name(n *node, rel, name string) error {
	if err := w.c.to.Check(rel); err != nil {
		return err
	}
	h := maphash.String(foldSeed, folded(name))
	if _, twice := n.names[h]; !twice {
		n.names[h] = struct{}{}
		return nil
	}
	folds, err := w.c.foldsCase(w)
	switch {
	case err != nil:
		return fmt.Errorf("%q may be the same name as another one in %s: %w", rel, w.c.to.Path(n.rel), err)
	case folds:
		return fmt.Errorf("%q differs only in case from another name, and %s does not tell them apart", rel, w.c.to.Path(""))
	}
	return nil
}

// foldsCase asks the target once.
func (c *Copier) foldsCase(w *walk) (bool, error) {
	c.foldOnce.Do(func() { c.folds, c.foldErr = c.to.FoldsCase(w.long) })
	return c.folds, c.foldErr
}
