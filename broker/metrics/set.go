package metrics

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/cordon-mq/cordon/broker"
)

// mostScrapes bounds the answers that are under way at a time, because each looks
// at every session. More get 503.
const mostScrapes = 4

// Set is the metrics of one process. It is safe for concurrent use.
type Set struct {
	registry *prometheus.Registry
	log      *slog.Logger

	evaluations prometheus.Histogram
	sweeps      prometheus.Histogram
	connects    *prometheus.HistogramVec // by outcome
	commits     *prometheus.HistogramVec // by result
}

var _ broker.Observer = (*Set)(nil)

// New makes a Set that shows histograms and the process itself. version and
// revision say what was built. log hears of what cannot be shown; nil: nobody
// does.
func New(version, revision string, log *slog.Logger) (*Set, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	histogram := func(name, help string, buckets []float64) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}
	}
	s := &Set{
		registry: prometheus.NewRegistry(),
		log:      log,
		evaluations: prometheus.NewHistogram(histogram("cordon_policy_evaluation_duration_seconds",
			"Time of one policy evaluation: what is answered from memory is not evaluated.",
			[]float64{1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 1e-2, 0.1, 1})),
		sweeps: prometheus.NewHistogram(histogram("cordon_sweep_duration_seconds",
			"Time to judge every connected session again after a policy went live.",
			[]float64{1e-3, 1e-2, 0.1, 0.5, 1, 5, 10, 60})),
		connects: prometheus.NewHistogramVec(histogram("cordon_connect_duration_seconds",
			"Time from a CONNECT packet to the decision about it, authentication included.",
			[]float64{1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 0.1, 0.25, 1, 10}), []string{"outcome"}),
		commits: prometheus.NewHistogramVec(histogram("cordon_store_commit_duration_seconds",
			"Time to write one batch to the store, its sync included.",
			[]float64{2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 0.1, 0.5, 2.5}), []string{"result"}),
	}
	for _, outcome := range []string{outcomeAllow, outcomeDeny} {
		s.connects.WithLabelValues(outcome)
	}
	for _, result := range []string{resultOK, resultFailed} {
		s.commits.WithLabelValues(result)
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "cordon_build_info", Help: "What is running; the value is always 1.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision, "goversion": runtime.Version()},
	})
	build.Set(1)
	return s, s.register(
		build, s.evaluations, s.sweeps, s.connects, s.commits,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
}

// Watch adds what is read from src whenever somebody asks. It is called once,
// when everything that src leads to is there.
func (s *Set) Watch(src Sources) error {
	return s.register(newCollector(src))
}

func (s *Set) register(all ...prometheus.Collector) error {
	for _, c := range all {
		if err := s.registry.Register(c); err != nil {
			return fmt.Errorf("metrics: %w", err)
		}
	}
	return nil
}

// Gatherer is for whoever wants the metrics themselves, such as a test.
func (s *Set) Gatherer() prometheus.Gatherer { return s.registry }

// Handler answers with all metrics, whoever asks: the gate is the caller's.
func (s *Set) Handler() http.Handler {
	return promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{
		ErrorLog:            logger{s.log},
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: mostScrapes,
	})
}

// Connect implements broker.Observer.
func (s *Set) Connect(allowed bool, took time.Duration) {
	s.connects.WithLabelValues(outcomeOf(allowed)).Observe(took.Seconds())
}

// Sweep implements broker.Observer.
func (s *Set) Sweep(took time.Duration) { s.sweeps.Observe(took.Seconds()) }

// Evaluated takes the time of one policy evaluation.
func (s *Set) Evaluated(took time.Duration) { s.evaluations.Observe(took.Seconds()) }

// Committed takes the time of one write to the store.
func (s *Set) Committed(took time.Duration, err error) {
	result := resultOK
	if err != nil {
		result = resultFailed
	}
	s.commits.WithLabelValues(result).Observe(took.Seconds())
}

// logger is where promhttp complains.
type logger struct{ log *slog.Logger }

func (l logger) Println(v ...any) { l.log.Error("metrics not complete", "err", fmt.Sprint(v...)) }
