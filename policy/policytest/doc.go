// Package policytest has deciders for other packages' tests: [DenyAll],
// [AllowAll], and [Recorder], which answers what a test tells it to and keeps
// what it was asked. None of them evaluates a policy.
package policytest
