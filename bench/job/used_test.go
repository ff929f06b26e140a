package job

import (
	"go/ast"
	goparser "go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// What a job file says is heeded: each field is read by who runs jobs or reports on them,
// but for those from which this package makes others.
func TestFieldsAreUsed(t *testing.T) {
	used := map[string]bool{
		"NumJobs": true, "Directory": true, "FilenameFormat": true, "NamesGiven": true, // Files
		"EngineWord": true,                        // Engine
		"ReadOnly":   true, "WarningsFatal": true, // errors of Parse
	}
	var names []string
	for _, pattern := range []string{"../run/*.go", "../engine/*.go", "../report/*.go", "../../cmd/smbd-rdma/bench*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v, %d files", pattern, err, len(files))
		}
		names = append(names, files...)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := goparser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				used[s.Sel.Name] = true
			}
			return true
		})
	}
	for _, typ := range []reflect.Type{reflect.TypeFor[Job](), reflect.TypeFor[Settings](), reflect.TypeFor[EngineOptions](), reflect.TypeFor[Logs](), reflect.TypeFor[Distribution]()} {
		for f := range typ.NumField() {
			if name := typ.Field(f).Name; !used[name] {
				t.Errorf("nobody reads %s.%s: refuse the option, or say why it is harmless", typ.Name(), name)
			}
		}
	}
}
