// Package metrics shows what a running Cordon does, in the form that Prometheus
// reads.
//
// # Contract
//
//   - A [Set] owns a registry of its own: nothing is registered anywhere else, and
//     nothing that another package registers is shown.
//   - Counters and gauges are read from snapshots when somebody asks, through the
//     small interfaces of [Sources]. The parts of the broker count with plain
//     atomics and know nothing of this package; main joins the two.
//   - Histograms are fed where something is seldom or slow: an evaluation that
//     nobody remembers, a commit, a connect, a sweep.
//   - A label has few values, known beforehand: an action, an outcome, a cause, a
//     listener, a direction, a QoS, a result, a plugin of the operator's folder. No
//     organisation, client, topic or address becomes one, whatever they are called,
//     and so no secret does.
//   - Units are base units: seconds and bytes. Counters end in _total and only grow
//     while the process lives.
//
// testdata/metrics.txt lists every metric with its type, labels and help; a test
// holds the two together.
package metrics
