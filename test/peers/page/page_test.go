//go:build peers

package page

import (
	"bytes"
	"fmt"
	"html"
	"image"
	"image/color"
	"image/png"
	"math"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/smbd-rdma/smbd-rdma/bench/page"
	"github.com/smbd-rdma/smbd-rdma/bench/saved"
)

// chromium runs the browser on a page, with a home of its own, and returns what it prints.
func chromium(t *testing.T, file string, args ...string) []byte {
	t.Helper()
	browser, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("needs Debian's chromium: ", err)
	}
	home := t.TempDir()
	cmd := exec.CommandContext(t.Context(), browser, append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--hide-scrollbars", "--no-first-run", "--user-data-dir=" + home}, append(args, (&url.URL{Scheme: "file", Path: file}).String())...)...)
	cmd.Env = append(os.Environ(), "HOME="+home)
	cmd.WaitDelay = 10 * time.Second
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		t.Fatalf("chromium %q: %v\n%s", args, err, log.String())
	}
	return out.Bytes()
}

// measured is a run of the bench, and its report.
func measured(t *testing.T) (*saved.Document, string) {
	t.Helper()
	bin := os.Getenv("SMBD_RDMA_BIN")
	if bin == "" {
		t.Skip("needs SMBD_RDMA_BIN; make peers-test sets it")
	}
	dir := t.TempDir()
	jobs := filepath.Join(dir, "jobs.fio")
	text := "[global]\nioengine=null\nsize=1g\nruntime=1\ntime_based\n"
	for _, bs := range []string{"4k", "64k", "1m"} {
		text += fmt.Sprintf("[null %s]\nstonewall\nrw=randread\nbs=%s\niodepth=4\nrate_iops=5000\n", bs, bs)
	}
	text += "[again 4k]\nstonewall\nrw=randread\nbs=4k\niodepth=4\nrate_iops=2500\n[mixed]\nstonewall\nrw=randrw\nbs=8k\nrate_iops=3000\n"
	if err := os.WriteFile(jobs, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "run.json")
	cmd := exec.CommandContext(t.Context(), bin, "bench", jobs, "--output-format=json", "--output="+out, "--eta=never")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("bench: %v\n%s", err, text)
	}
	d, err := saved.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := page.Write(&b, []*saved.Document{d}, page.Options{}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "report.html")
	if err := os.WriteFile(file, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	return d, file
}

var (
	rows  = regexp.MustCompile(`(?s)<tr data-job="([^"]*)"[^>]*>(.*?)</tr>`)
	cells = regexp.MustCompile(`(?s)<td data-figure="([^"]*)"(?: data-value="([^"]*)")?>([^<]*)`)
)

func TestReportInABrowser(t *testing.T) {
	d, file := measured(t)

	t.Run("its figures are those of the run", func(t *testing.T) {
		dom := string(chromium(t, file, "--dump-dom"))
		read := make(map[string]map[string]float64)
		for _, r := range rows.FindAllStringSubmatch(dom, -1) {
			figures := make(map[string]float64)
			for _, c := range cells.FindAllStringSubmatch(r[2], -1) {
				if c[3] == "" {
					t.Errorf("%s of %s shows nothing", c[1], r[1])
				}
				if v, err := strconv.ParseFloat(html.UnescapeString(c[2]), 64); err == nil {
					figures[c[1]] = v
				}
			}
			read[html.UnescapeString(r[1])] = figures
		}
		if len(read) != 6 { // the mixed job has two
			t.Fatalf("%d rows", len(read))
		}
		for _, j := range d.Jobs {
			for _, dir := range j.Directions() {
				name := j.Name
				if len(j.Directions()) > 1 {
					name += ", " + dir.String()
				}
				tr := &j.Traffic[dir]
				p99, _ := tr.Latency.Percentile(99)
				for figure, want := range map[string]float64{"bandwidth": tr.Bandwidth, "IOPS": tr.IOPS, "mean": tr.Latency.Mean,
					"p99": float64(p99), "client CPU": j.ClientCPU} {
					if got, shown := read[name][figure]; !shown || math.Abs(got-want) > 1e-9*want {
						t.Errorf("%s of %s: the page has %v, the run %v", figure, name, got, want)
					}
				}
			}
		}
		if n := strings.Count(dom, "<svg"); n != 7 {
			t.Errorf("%d charts", n)
		}
	})

	t.Run("there is something to see", func(t *testing.T) {
		shot := filepath.Join(t.TempDir(), "page.png")
		chromium(t, file, "--window-size=1200,2600", "--screenshot="+shot)
		img := picture(t, shot)
		seen := count(img)
		background := seen[color.RGBA{0xff, 0xff, 0xff, 0xff}]
		all := img.Bounds().Dx() * img.Bounds().Dy()
		if share := float64(background) / float64(all); share < 0.5 || share > 0.99 {
			t.Errorf("%.2f of the page is white", share)
		}
		for i, c := range []color.RGBA{{0, 0x72, 0xb2, 0xff}, {0xd5, 0x5e, 0, 0xff}, {0, 0x9e, 0x73, 0xff}, {0xcc, 0x79, 0xa7, 0xff}, {0xe6, 0x9f, 0, 0xff}, {0x56, 0xb4, 0xe9, 0xff}} {
			if seen[c] < 300 { // its swatches alone are fewer
				t.Errorf("%d pixels of the colour of series %d", seen[c], i)
			}
		}
	})

	t.Run("on a telephone", func(t *testing.T) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// The page forbids scripts; the copy that is measured here does not.
		copied := regexp.MustCompile(`<meta http-equiv="Content-Security-Policy"[^>]*>`).ReplaceAll(text, nil)
		copied = bytes.Replace(copied, []byte("</body>"), []byte(`<script>
const e = document.documentElement;
e.dataset.layout = [window.innerWidth, e.scrollWidth, ...[...document.querySelectorAll("figure")].map(f => Math.round(f.getBoundingClientRect().right))].join(" ");
</script></body>`), 1)
		narrow := filepath.Join(t.TempDir(), "narrow.html")
		if err := os.WriteFile(narrow, copied, 0o666); err != nil {
			t.Fatal(err)
		}
		dom := string(chromium(t, narrow, "--window-size=390,844", "--dump-dom"))
		m := regexp.MustCompile(`data-layout="([\d ]+)"`).FindStringSubmatch(dom)
		if m == nil {
			t.Fatal("the script did not run")
		}
		var n []int
		for _, f := range strings.Fields(m[1]) {
			v, _ := strconv.Atoi(f)
			n = append(n, v)
		}
		if n[0] > 520 { // the narrowest window that the browser makes may be wider
			t.Fatalf("the window is %d wide", n[0])
		}
		for _, right := range n[1:] {
			if right > n[0] {
				t.Errorf("the page is wider than its window: %v", n)
			}
		}
	})

	t.Run("on paper", func(t *testing.T) {
		out := filepath.Join(t.TempDir(), "page.pdf")
		chromium(t, file, "--print-to-pdf="+out, "--no-pdf-header-footer")
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		pages := len(regexp.MustCompile(`/Type /Page\b`).FindAll(b, -1))
		if !bytes.HasPrefix(b, []byte("%PDF")) || pages < 1 || pages > 6 {
			t.Errorf("%d octets, %d pages", len(b), pages)
		}
	})
}

func picture(t *testing.T, file string) image.Image {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func count(img image.Image) map[color.RGBA]int {
	seen := make(map[color.RGBA]int)
	for y := img.Bounds().Min.Y; y < img.Bounds().Max.Y; y++ {
		for x := img.Bounds().Min.X; x < img.Bounds().Max.X; x++ {
			r, g, b, _ := img.At(x, y).RGBA()
			seen[color.RGBA{uint8(r >> 8), uint8(g >> 8), uint8(b >> 8), 0xff}]++
		}
	}
	return seen
}
