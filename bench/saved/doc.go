// Package saved reads what a bench left on disk: the JSON of this project's own bench, and
// of fio itself (--output-format=json or json+), so that both can stand side by side in a
// report or a comparison.
//
// The text is somebody's file and is checked like any other input: sizes, counts and
// percentiles out of range are errors that name the job.
package saved
