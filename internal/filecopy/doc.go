// Package filecopy moves files and trees between places: the local file system and
// shares, in either direction, and from share to share.
//
//	c, err := filecopy.New(filecopy.Local("photos"), filecopy.OnShare(share, "photos", "//server/data/photos"), filecopy.Config{})
//	if err == nil {
//		err = c.Tree(ctx)
//	}
//
// What it promises:
//
//   - A file has its name only when it is whole (unless Config.InPlace): until then it
//     is called .smbd-rdma-SOMETHING in the same directory. An interruption removes
//     that, or with Config.Continue keeps it beside a journal that says how much of it
//     is on stable storage, so that the next run goes on from there.
//   - Holes of sparse files stay holes, where both places have such.
//   - What fails is told to Config.Report, and the rest is copied.
//   - Memory does not grow with the number of files: trees are walked while they are
//     copied. Tree needs a part of each directory on the way down, and 16 bytes for
//     each name in them; Sync needs the names of the target's directories on the
//     way down.
//   - Names in a listing never lead out of the target: a local target is reached through
//     os.Root, so that a link in it that leads out of it is an error.
//
// A Copier's methods are called one at a time; it runs Config.Jobs goroutines of its
// own, which end before they return. Paths below a place ("rel") have forward slashes,
// and "" is the place itself.
package filecopy
