package job

import (
	"errors"
	"strings"
	"testing"
)

// FuzzFile: whatever a job file holds, it becomes jobs whose settings are within their
// bounds, or an error of one line, and the same each time.
func FuzzFile(f *testing.F) {
	for _, seed := range []string{
		"[global]\nioengine=libaio\niodepth=16\n[a]\nrw=randrw\nbssplit=4k/60:64k/40\n[b]\nstonewall\nnumjobs=3\n",
		"[a]\nsize=(2*(3+1k)^2)\nbsrange=1k-8k,4k-4k\noffset=5%\nrate=1m,2m\n",
		"[a]\nrandom_distribution=zoned:60/10:40/\nfile_service_type=zipf:1.2:0.5\nfilename=a:b\\:c\n",
		"[a]\nrw=write\nverify=md5\nverify_pattern=0xff%o\"x\"12\nignore_error=,EIO:5\n",
		"[a]\ninclude more\nstartdelay=5-10\npercentile_list=50:99.9\nsize=8*$mb_memory\ndirectory=${DIR}\n",
		"[a]\nioengine=smbdirect\nserver=h\nshare=s\nchannels=4\nmetrics=http://h/m\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		env := files{"job.fio": text, "more": "bs=8k\nlatency_target=1ms"}.env()
		plan, err := Parse([]string{"job.fio"}, env)
		again, err2 := Parse([]string{"job.fio"}, env)
		if (err == nil) != (err2 == nil) || err != nil && err.Error() != err2.Error() {
			t.Fatalf("first %v, then %v", err, err2)
		}
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || strings.ContainsAny(err.Error(), "\n\r") {
				t.Fatalf("%q of %T", err, err)
			}
			return
		}
		if len(plan.Jobs) != len(again.Jobs) || len(plan.Jobs) > MaxJobs {
			t.Fatalf("%d jobs, then %d", len(plan.Jobs), len(again.Jobs))
		}
		for i, j := range plan.Jobs {
			check(t, j)
			if j.Number != i+1 {
				t.Errorf("job %d has number %d", i+1, j.Number)
			}
		}
	})
}

// check holds a job against what its fields promise.
func check(t *testing.T, j *Job) {
	t.Helper()
	within := func(what string, v, lo, hi int) {
		if v < lo || v > hi {
			t.Errorf("%s is %d, not in %d to %d", what, v, lo, hi)
		}
	}
	within("NumJobs", j.NumJobs, 1, MaxJobs)
	within("Clone", j.Clone, 0, j.NumJobs-1)
	within("IODepth", j.IODepth, 1, MaxDepth)
	within("IODepthBatch", j.IODepthBatch, 1, j.IODepth)
	within("IODepthLow", j.IODepthLow, 1, j.IODepth)
	within("IODepthBatchCompleteMax", j.IODepthBatchCompleteMax, j.IODepthBatchCompleteMin, j.IODepth)
	within("NrFiles", j.NrFiles, 1, MaxFiles)
	within("Files", len(j.Files), 1, MaxFiles)
	within("RWMixRead", j.RWMixRead, 0, 100)
	within("Loops", j.Loops, 1, maxInt)
	within("SeqRun", j.SeqRun, 1, maxInt)
	within("PercentileList", len(j.PercentileList), 1, maxPercentiles)
	within("BufferPattern", len(j.BufferPattern.Bytes), 0, MaxPattern)
	if !j.RW.Reads && !j.RW.Writes {
		t.Error("it neither reads nor writes")
	}
	for d := range Directions {
		within("MinBS", int(j.MinBS[d]), 1, MaxBlock)
		within("MaxBS", int(j.MaxBS[d]), int(j.MinBS[d]), MaxBlock)
		within("BA", int(j.BA[d]), 1, MaxBlock)
		sum := 0
		for _, s := range j.BSSplit[d] {
			within("split", int(s.Size), int(j.MinBS[d]), int(j.MaxBS[d]))
			sum += s.Percent
		}
		within("sum of split", sum, 0, 100)
	}
	for _, a := range []Amount{j.Size, j.IOSize, j.Offset, j.OffsetIncrement} {
		within("percentage", int(a.Percent), 0, 100)
		if int64(a.Bytes) < 0 {
			t.Errorf("amount of %d bytes", a.Bytes)
		}
	}
	if j.Runtime < 0 || j.RampTime < 0 || j.StartDelay < 0 || j.StartDelayMax < j.StartDelay || j.ThinkTimeSpin > j.ThinkTime {
		t.Errorf("times %v %v %v %v %v %v", j.Runtime, j.RampTime, j.StartDelay, j.StartDelayMax, j.ThinkTime, j.ThinkTimeSpin)
	}
	if j.Verify != VerifyNone && (j.VerifyInterval == 0 || j.MinBS[Write]%j.VerifyInterval != 0 || j.MaxBS[Write]%j.VerifyInterval != 0) {
		t.Errorf("verify_interval %d of blocks of %d to %d", j.VerifyInterval, j.MinBS[Write], j.MaxBS[Write])
	}
}

// FuzzCommandLine: words of a command line, one a line, become a plan or an error.
func FuzzCommandLine(f *testing.F) {
	f.Add("--name=x\n--rw\nrandread\n--bs=4k")
	f.Add("--output-format=json+\n-iodepth=4\njob.fio\n--\n--x")
	f.Add("--status-interval=(1m+30s)\n--section=a\njob.fio")
	f.Fuzz(func(t *testing.T, text string) {
		plan, err := Parse(strings.Split(text, "\n"), files{"job.fio": "[a]\n[b]\nrw=write"}.env())
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || strings.ContainsAny(err.Error(), "\n\r") {
				t.Fatalf("%q of %T", err, err)
			}
			return
		}
		for _, j := range plan.Jobs {
			check(t, j)
		}
		if s := plan.Settings; s.Repeat < 1 || len(s.Formats) == 0 || s.ETAInterval <= 0 {
			t.Errorf("settings %+v", s)
		}
	})
}
