// Package job reads fio's words: job files and command lines become typed jobs.
//
// A Job has every setting that has a meaning here, with fio's defaults and with what
// options imply for each other worked out. Every option that fio 3.33 knows has a row in
// the table of options: it runs, it is accepted because leaving it out changes nothing
// that is measured, or it is refused with what to do instead. Nothing is dropped silently:
// what is accepted without effect is in Plan.Notes.
//
//	plan, err := job.Parse([]string{"--name=seq", "--rw=read", "--size=1g"}, job.System())
//
// A mistake is an *Error, which says file, line, section and option in one line.
// The package is pure but for the job files, which it reads through Env; it imports
// nothing of this project.
package job
