// Package report writes what was measured: tables in Markdown and charts in SVG.
// It knows numbers and words, nothing of brokers.
package report
