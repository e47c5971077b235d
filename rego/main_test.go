package rego_test

import (
	"os"
	"testing"

	"github.com/cordon-mq/cordon/policy/opa/plan"
)

// Some tests here use OPA beside the engine, which tells it of its plans first.
func TestMain(m *testing.M) {
	plan.Register()
	os.Exit(m.Run())
}
