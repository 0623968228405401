package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
)

// What is to be evaluated, as JSON on stdin.
type task struct {
	// In the notation of Prometheus' own tests: "load 30s", then a series a line.
	Series string `json:"series"`
	// In their order; each may use what those before it recorded.
	Rules []rule `json:"rules"`
	// How long, and how often [s].
	Seconds  int64 `json:"seconds"`
	Interval int64 `json:"interval"`
}

// An alert has a name and how long it must be true [s]; a recorded series has a name alone.
type rule struct {
	Record string `json:"record"`
	Alert  string `json:"alert"`
	Expr   string `json:"expr"`
	For    int64  `json:"for"`
}

type sample struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"`
	Value  float64           `json:"value"`
}

// Evaluates rules over synthetic series and prints what stands at the end: recorded samples, firing alerts.
func evaluate(in io.Reader, out io.Writer) error {
	var asked task
	if err := json.NewDecoder(in).Decode(&asked); err != nil {
		return err
	}
	suite, err := promqltest.NewLazyLoader(asked.Series, promqltest.LazyLoaderOpts{EnableAtModifier: true, EnableNegativeOffset: true})
	if err != nil {
		return err
	}
	defer suite.Close()
	// Of each rule, by labels: since when it is true [s].
	since := make([]map[string]int64, len(asked.Rules))
	for at := int64(0); at <= asked.Seconds; at += asked.Interval {
		found := []sample{}
		var failed error
		suite.WithSamplesTill(time.Unix(at, 0), func(err error) { failed = err })
		for i, one := range asked.Rules {
			if failed != nil {
				return failed
			}
			var vector promql.Vector
			if vector, failed = query(suite, one.Expr, at); failed != nil {
				return fmt.Errorf("%s: %w", one.Expr, failed)
			}
			if one.Record != "" {
				failed = record(suite, one.Record, vector, at)
			}
			still := map[string]int64{}
			for _, s := range vector {
				key := s.Metric.String()
				begun, known := since[i][key]
				if !known {
					begun = at
				}
				still[key] = begun
				if at-begun >= one.For {
					found = append(found, sample{one.Record + one.Alert, s.Metric.Map(), s.F})
				}
			}
			since[i] = still
		}
		if at+asked.Interval > asked.Seconds {
			return json.NewEncoder(out).Encode(found)
		}
	}
	return nil
}

func query(suite *promqltest.LazyLoader, text string, at int64) (promql.Vector, error) {
	asked, err := suite.QueryEngine().NewInstantQuery(suite.Context(), suite.Queryable(), nil, text, time.Unix(at, 0))
	if err != nil {
		return nil, err
	}
	defer asked.Close()
	result := asked.Exec(suite.Context())
	vector, err := result.Vector()
	return append(promql.Vector{}, vector...), err
}

func record(suite *promqltest.LazyLoader, name string, vector promql.Vector, at int64) error {
	appender := suite.Storage().Appender(suite.Context())
	for _, s := range vector {
		series := labels.NewBuilder(s.Metric).Set(labels.MetricName, name).Labels()
		if _, err := appender.Append(0, series, at*1000, s.F); err != nil {
			return err
		}
	}
	return appender.Commit()
}
