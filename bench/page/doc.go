// Package page makes what people look at of saved benches: one HTML file that needs
// nothing but a browser, and a picture in SVG for a paper.
//
// Charts are drawn by gonum.org/v1/plot as SVG, which goes into the page as it is: sharp
// on a telephone and in print, without a script. go-echarts, the other library at hand,
// draws in the browser by a megabyte of JavaScript, which would have to be in each file or
// come from the network.
//
// Every figure of the page's tables has its exact value in the attribute data-value, so
// that programs can read a report back.
package page
