package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"

	"github.com/smbd-rdma/smbd-rdma/bench/engine"
	"github.com/smbd-rdma/smbd-rdma/bench/job"
	"github.com/smbd-rdma/smbd-rdma/bench/pattern"
)

const (
	// endless is the size of what has none: null and ndk.
	endless = 1 << 50
	// maxBuffers bounds the memory of a job's buffers, in bytes.
	maxBuffers = 8 << 30
	// layBlock is how much is written at a time where files are laid out.
	layBlock = 1 << 20
)

// refused says which option of a job there is nothing for here. To go on without it would
// be to measure something else.
func refused(j *job.Job) error {
	zones := &j.Distribution.Zones
	raw := !hasFiles(j.Engine) && j.Engine != job.EngineNull
	for _, o := range []struct {
		on   bool
		name string
		why  string
	}{
		{j.VerifyBacklog > 0, "verify_backlog", "what was written is read back at the end"},
		{j.VerifyDump, "verify_dump", "what differs is said in the error"},
		{j.ThinkTimeSpin > 0, "thinktime_spin", "pauses are slept"},
		{j.ThinkTimeIOTime > 0, "thinktime_iotime", "use thinktime_blocks"},
		{j.UnlinkEachLoop && j.Loops > 1, "unlink_each_loop", "use unlink"},
		{j.VerifyOnly && j.RW.Reads && j.RW.Writes && (j.Rate != [2]uint64{} || j.RateIOPS != [2]uint64{}), "verify_only", "with rates for a mix, what was written depends on the time"},
		{j.BSIsSeqRand, "bs_is_seq_rand", "use a job for each"},
		{j.Unified != job.UnifiedNone, "unified_rw_reporting", "directions are reported apart"},
		{j.Logs.Hist != "", "write_hist_log", "json+ has the histograms"},
		{j.RW.Reads && j.RW.Writes && !slices.Equal(zones[job.Read], zones[job.Write]), "random_distribution", "reads and writes have the same zones"},
		{j.Engine != job.EnginePosix && (j.Fallocate == job.FallocatePosix || j.Fallocate == job.FallocateKeep), "fallocate", "only local files have their space reserved; use none, native or truncate"},
		{raw && j.Verify != job.VerifyNone, "verify", "raw RDMA keeps nothing"},
		{raw && j.Fsync > 0, "fsync", "raw RDMA keeps nothing"},
		{raw && j.Fdatasync > 0, "fdatasync", "raw RDMA keeps nothing"},
		{raw && j.EndFsync, "end_fsync", "raw RDMA keeps nothing"},
		{raw && j.FsyncOnClose, "fsync_on_close", "raw RDMA keeps nothing"},
		{!hasFiles(j.Engine) && j.Size.Percent > 0 && j.FileSizeMax == 0, "size", "per cent of a file, and this engine has none: give bytes, or filesize"},
		{j.Remote.PeerMemory == "size" && j.Size.Bytes == 0, "peer_memory", "size= is not given in bytes"},
		{j.Engine == job.EngineNDKWrite && j.RW.Reads, "rw", "ndk-write writes alone; use write, or ioengine=ndk-read"},
		{j.Engine == job.EngineNDKRead && j.RW.Writes, "rw", "ndk-read reads alone; use read, or ioengine=ndk-write"},
	} {
		if o.on {
			return &job.Error{File: j.File, Line: j.Line, Section: j.Name, Option: asGiven(j, o.name), Msg: engine.ErrRefused.Error() + ": " + o.why, Err: engine.ErrRefused}
		}
	}
	if depth, size := max(j.IODepth, 1), longest(j); size > maxBuffers/depth {
		return &job.Error{File: j.File, Line: j.Line, Section: j.Name, Msg: fmt.Sprintf("%d buffers of %d bytes are more than %d bytes of memory: give less of iodepth or bs", depth, size, int64(maxBuffers))}
	}
	return nil
}

// asGiven is an option of a job with the value that the job has, or else its [global].
func asGiven(j *job.Job, name string) string {
	for _, from := range [][]job.Option{j.Options, j.Inherited} {
		for _, o := range slices.Backward(from) {
			if o.Name == name && !o.Bare {
				return name + "=" + o.Value
			}
		}
	}
	return name
}

// hasFiles says that the engine works on files.
func hasFiles(e job.Engine) bool {
	switch e {
	case job.EngineNull, job.EngineNDKWrite, job.EngineNDKRead, job.EngineNDKSend:
		return false
	}
	return true
}

// prepare makes everything that I/O needs.
func (w *worker) prepare(ctx context.Context) error {
	j := w.job
	depth, size := max(j.IODepth, 1), longest(j)
	regions, err := w.openFiles(ctx)
	if err != nil {
		return err
	}
	if w.bufs, err = engine.NewBuffers(depth, size); err != nil {
		return err
	}
	content := pattern.Content{Zero: j.ZeroBuffers, Pattern: j.BufferPattern.Bytes, Refill: j.RefillBuffers, Still: !j.ScrambleBuffers,
		Compress: j.CompressPercentage, Chunk: j.CompressChunk, Dedupe: j.DedupePercentage}
	w.units, w.flying = make([]engine.Unit, depth), make([]bool, depth)
	for i := range w.units {
		w.units[i].Slot = i
		f, err := pattern.NewFiller(content, w.seed()+uint64(i)<<32)
		if err == nil {
			f.First(w.bufs.At(i))
		}
		w.fill = append(w.fill, f)
		if err != nil {
			return errors.Join(err, w.bufs.Close())
		}
	}
	if err = w.makeGenerator(regions); err == nil && j.Verify != job.VerifyNone {
		w.seals, err = newSeals(w, regions)
	}
	if err != nil {
		return errors.Join(err, w.bufs.Close())
	}
	return nil
}

// seed is what the random numbers of the job follow from.
func (w *worker) seed() uint64 { return w.job.RandSeed + uint64(w.job.Number)*0x9e3779b97f4a7c15 }

// openFiles opens, and where need be lays out, the files of the job, and returns the
// parts of them that are worked on.
func (w *worker) openFiles(ctx context.Context) ([]pattern.Region, error) {
	j := w.job
	regions := make([]pattern.Region, len(w.files))
	flags := engine.OpenFlags{Read: j.RW.Reads || j.Verify != job.VerifyNone || j.PreRead, Write: j.RW.Writes && !j.VerifyOnly, Direct: j.Direct,
		Sync: j.Sync == job.SyncFull, DataSync: j.Sync == job.SyncData}
	if j.CreateSerialize {
		w.run.layout.Lock()
		defer w.run.layout.Unlock()
	}
	sizes := pattern.NewRandom(w.seed(), 3)
	for i, name := range w.files {
		var there int64
		exists := false
		if hasFiles(j.Engine) {
			n, err := w.target.Stat(ctx, name)
			if err == nil {
				there, exists = n, true
			} else if !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
		}
		if err := w.region(&regions[i], there, sizes); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if !hasFiles(j.Engine) {
			continue
		}
		if err := w.openFile(ctx, i, exists, there, regions[i], flags); err != nil {
			return nil, err
		}
		if j.Invalidate && !j.Direct {
			if err := w.target.Forget(i); err != nil {
				return nil, fmt.Errorf("invalidate %s: %w", name, err)
			}
		}
	}
	return regions, nil
}

// region works out which part of a file of a size is worked on.
func (w *worker) region(r *pattern.Region, there int64, random *pattern.Random) error {
	j := w.job
	n := uint64(max(j.NrFiles, 1))
	full := uint64(there) // the size of the file
	switch {
	case j.FileSizeMax > 0:
		full = j.FileSizeMin
		if j.FileSizeMax > j.FileSizeMin {
			full += random.Below(j.FileSizeMax - j.FileSizeMin + 1)
		}
	case j.Size.Bytes > 0:
		full = j.Size.Bytes / n
	case !hasFiles(j.Engine):
		full = endless
	case j.FillDevice:
		full = endless
	}
	unit := w.minSize()
	start := j.Offset.Of(full) + j.OffsetIncrement.Of(full)*uint64(j.Clone)
	align := j.OffsetAlign
	if align > 0 {
		start = (start + align - 1) / align * align
	} else if j.Offset.Percent > 0 || j.OffsetIncrement.Percent > 0 {
		start = start / unit * unit
	}
	if j.FileAppend {
		start += uint64(there)
	}
	length := full
	switch {
	case j.Size.Percent > 0:
		length = j.Size.Of(full)
		length = min(length, full-min(start, full))
	case j.FileSizeMax > 0:
		if j.Size.Bytes > 0 {
			length = min(full, j.Size.Bytes/n)
		}
		length = min(length, full-min(start, full))
	case j.Size.Bytes == 0 && hasFiles(j.Engine) && !j.FillDevice:
		length = full - min(start, full)
	}
	if length < unit {
		return fmt.Errorf("%d bytes at %d have no room for a block of %d: set size or filesize, or name a file that is long enough", length, start, unit)
	}
	if start > math.MaxInt64/2 || length > math.MaxInt64/2 {
		return fmt.Errorf("%d bytes at %d are beyond the end of any file", length, start)
	}
	r.Start, r.Size = int64(start), int64(length)
	return nil
}

func (w *worker) minSize() uint64 {
	n := uint64(math.MaxInt64)
	for d := range w.job.MinBS {
		if w.job.RW.Has(job.Direction(d)) {
			n = min(n, max(w.job.MinBS[d], 1))
			for _, s := range w.job.BSSplit[d] {
				n = min(n, max(s.Size, 1))
			}
		}
	}
	return n
}

// openFile opens a file, which is made or made longer if it has to be.
func (w *worker) openFile(ctx context.Context, i int, exists bool, there int64, r pattern.Region, flags engine.OpenFlags) error {
	j, name := w.job, w.files[i]
	need := r.Start + r.Size
	if need >= endless {
		need = 0
	}
	key := string(j.Engine) + "\x00" + j.Remote.Server + "\x00" + j.Remote.Share + "\x00" + name
	writes := j.RW.Writes && !j.VerifyOnly
	grow := there < need && !j.FileAppend
	_, ours := w.run.created.Load(key)
	if exists && (writes || grow || j.Unlink) && !ours && !w.run.cfg.Plan.Settings.AllowOverwrite {
		return fmt.Errorf("%s: %w", name, ErrOverwrite)
	}
	if !exists {
		if !j.AllowFileCreate {
			return fmt.Errorf("%s: %w, and allow_file_create=0", name, fs.ErrNotExist)
		}
		if j.VerifyOnly {
			return fmt.Errorf("%s: %w: there is nothing to verify", name, fs.ErrNotExist)
		}
		w.run.created.Store(key, true)
	}
	lay := grow && !j.CreateOnOpen && !j.VerifyOnly && (j.RW.Reads || j.Overwrite) && need > 0
	if lay || grow && !writes {
		if j.VerifyOnly {
			return fmt.Errorf("%s has %d bytes, and %d are to be verified", name, there, need)
		}
		if err := w.layOut(ctx, i, name, there, need); err != nil {
			return fmt.Errorf("lay out %s: %w", name, err)
		}
	}
	flags.Create = writes
	if err := w.target.Open(ctx, i, name, flags); err != nil {
		return err
	}
	if grow && !lay && writes && !j.CreateOnOpen && need > 0 {
		return w.reserve(ctx, i, need)
	}
	if j.PreRead {
		return w.preRead(i, need)
	}
	return nil
}

// fallocate is how a file's space is reserved. What is written until there is no more space
// has none reserved, which there would not be.
func (w *worker) fallocate() job.Fallocate {
	if w.job.FillDevice {
		return job.FallocateNone
	}
	return cmp.Or(w.job.Fallocate, job.FallocateNative)
}

// reserve has a file's space reserved, or where it can't be at least its length set.
func (w *worker) reserve(ctx context.Context, i int, size int64) error {
	how := w.fallocate()
	if r, ok := w.target.(engine.Reserver); ok {
		return r.Reserve(i, how, size)
	}
	if how == job.FallocateNone {
		return nil
	}
	return w.target.Truncate(ctx, i, size)
}

// preRead reads a file up to an offset.
func (w *worker) preRead(i int, end int64) error {
	bufs, err := engine.NewBuffers(1, layBlock)
	if err != nil {
		return err
	}
	for off := int64(0); off < end && !w.stopped() && err == nil; off += layBlock {
		u := engine.Unit{Op: engine.Read, File: i, Offset: off, Buf: bufs.At(0)[:min(layBlock, end-off)]}
		w.target.Do(&u)
		err = u.Err
	}
	return errors.Join(err, bufs.Close())
}

// layOut fills a file from there to need.
func (w *worker) layOut(ctx context.Context, i int, name string, there, need int64) (err error) {
	if err := w.target.Open(ctx, i, name, engine.OpenFlags{Read: true, Write: true, Create: true}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.target.CloseFile(i)) }()
	bufs, err := engine.NewBuffers(1, layBlock)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bufs.Close()) }()
	f, err := pattern.NewFiller(pattern.Content{Zero: w.job.ZeroBuffers, Pattern: w.job.BufferPattern.Bytes, Refill: true,
		Compress: w.job.CompressPercentage, Chunk: w.job.CompressChunk, Dedupe: w.job.DedupePercentage}, w.seed()+99)
	if err != nil {
		return err
	}
	f.First(bufs.At(0))
	if r, ok := w.target.(engine.Reserver); ok {
		if err := r.Reserve(i, w.fallocate(), need); err != nil {
			return err
		}
	}
	for off := there; off < need; off += layBlock {
		if w.stopped() {
			return context.Canceled
		}
		u := engine.Unit{Op: engine.Write, File: i, Offset: off, Buf: bufs.At(0)[:min(layBlock, need-off)]}
		f.Next(u.Buf, off)
		if w.target.Do(&u); u.Err != nil {
			return u.Err
		}
	}
	u := engine.Unit{Op: engine.Sync, File: i}
	if w.job.CreateFsync {
		w.target.Do(&u)
	}
	return u.Err
}

// makeGenerator translates the job for pattern.
func (w *worker) makeGenerator(regions []pattern.Region) error {
	j := w.job
	c := pattern.Config{Seed: w.seed(), Reads: j.RW.Reads, Writes: j.RW.Writes, ReadPercent: j.RWMixRead, Random: j.RW.Random,
		RandomPercent: j.PercentageRandom, Run: j.SeqRun, Same: j.SeqSame, Stride: j.SeqAdd, Files: regions, NoMap: j.NoRandomMap,
		ServiceRun: j.FileService.Run}
	for d := range c.Sizes {
		s := &c.Sizes[d]
		s.Min, s.Max = int64(j.MinBS[d]), int64(j.MaxBS[d])
		if j.BSUnaligned {
			s.Step = 1
		}
		for _, e := range j.BSSplit[d] {
			s.Split = append(s.Split, pattern.Share{Size: int64(e.Size), Percent: e.Percent})
		}
		if n := len(s.Split); n > 0 { // what rounding left goes to the last
			sum := 0
			for _, e := range s.Split {
				sum += e.Percent
			}
			s.Split[n-1].Percent += 100 - sum
		}
		c.Align[d] = int64(j.BA[d])
	}
	c.Distribution = shape(j.Distribution)
	if j.Distribution.Kind == job.Zoned {
		c.Distribution = pattern.Distribution{Centre: -1}
		zones := j.Distribution.Zones[job.Read]
		if !j.RW.Reads {
			zones = j.Distribution.Zones[job.Write]
		}
		c.Zones = zonesOf(zones, uint64(regions[0].Size))
	}
	c.ServiceShape = shape(j.FileService)
	switch j.FileService.Kind {
	case job.RoundRobin:
		c.Service = pattern.RoundRobin
	case job.Sequential:
		c.Service = pattern.InSequence
	case job.Uniform:
		c.Service = pattern.RandomFile
	default:
		c.Service = pattern.SampledFile
	}
	total := int64(0)
	for _, r := range regions {
		total += r.Size / int64(w.minSize()) * int64(w.minSize())
	}
	if !j.IOSize.Zero() {
		total = int64(min(j.IOSize.Of(uint64(total)), math.MaxInt64/4))
	}
	c.Total, w.total, w.loops = total, total, max(j.Loops, 1)
	if j.TimeBased && j.Runtime > 0 {
		c.Total = -1
	}
	g, err := pattern.New(c)
	if err != nil && j.SoftRandomMap && c.Random && !c.NoMap {
		c.NoMap = true
		g, err = pattern.New(c)
	}
	w.gen = g
	return err
}

func shape(d job.Distribution) pattern.Distribution {
	out := pattern.Distribution{Param: d.Param, Centre: d.Center}
	switch d.Kind {
	case job.Zipf:
		out.Shape = pattern.Zipf
	case job.Pareto:
		out.Shape = pattern.Pareto
	case job.Normal:
		out.Shape = pattern.Normal
	default:
		out = pattern.Distribution{Centre: -1}
	}
	return out
}

// zonesOf are zones in shares of the region; one without a size has what is left.
func zonesOf(zs []job.Zone, region uint64) []pattern.Zone {
	out := make([]pattern.Zone, 0, len(zs))
	left := 1.0
	for _, z := range zs {
		share := left
		if z.Size.Percent > 0 {
			share = float64(z.Size.Percent) / 100
		} else if z.Size.Bytes > 0 {
			share = float64(z.Size.Bytes) / float64(region)
		}
		share = max(0, min(share, left))
		left -= share
		out = append(out, pattern.Zone{Access: z.Access, Size: share})
	}
	return out
}

// cleanUp deletes what is to be deleted.
func (w *worker) cleanUp(ctx context.Context) error {
	if !hasFiles(w.job.Engine) {
		return nil
	}
	var errs []error
	for i, name := range w.files {
		errs = append(errs, w.target.CloseFile(i))
		if w.job.Unlink {
			errs = append(errs, w.target.Remove(ctx, name))
		}
	}
	return errors.Join(errs...)
}
