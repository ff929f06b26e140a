// Package page looks at the bench's report in a browser, Debian's Chromium without a
// screen: whether its figures are those of the run, whether there is something to see, on
// a telephone too and on paper (`make peers-test`).
package page
