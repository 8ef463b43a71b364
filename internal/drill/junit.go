package drill

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

type junitSuites struct {
	XMLName xml.Name     `xml:"testsuites"`
	Suites  []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Time     string      `xml:"time,attr"`
	Stamp    string      `xml:"timestamp,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string     `xml:"classname,attr"`
	Name    string     `xml:"name,attr"`
	Time    string     `xml:"time,attr"`
	Failure *junitText `xml:"failure"`
	Error   *junitText `xml:"error"`
	Skipped *junitText `xml:"skipped"`
}

type junitText struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// WriteJUnit writes one suite per scenario and one case per check, and a case
// of its own for everything that is no bound: proof, recovery, lost writes.
func (r *Report) WriteJUnit(w io.Writer) error {
	var out junitSuites
	stamp := r.Started.UTC().Format("2006-01-02T15:04:05")
	if r.Reason != "" { // no scenario could be started
		suite := junitSuite{Name: "drill." + r.Cluster, Stamp: stamp, Time: "0"}
		suite.add(junitCase{Class: "drill", Name: "starts", Time: "0", Error: &junitText{Message: r.Reason}})
		out.Suites = append(out.Suites, suite)
	}
	for _, s := range r.Scenarios {
		suite := junitSuite{Name: "drill." + r.Cluster + "." + s.Name, Stamp: stamp}
		for _, c := range s.cases() {
			suite.add(c)
		}
		took := 0.0
		for _, run := range s.Runs {
			took += run.EndMS
		}
		suite.Time = fmt.Sprintf("%.3f", took/1000)
		out.Suites = append(out.Suites, suite)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(out); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (s *junitSuite) add(c junitCase) {
	s.Tests++
	switch {
	case c.Skipped != nil:
		s.Skipped++
	case c.Error != nil:
		s.Errors++
	case c.Failure != nil:
		s.Failures++
	}
	s.Cases = append(s.Cases, c)
}

func (s *Result) cases() []junitCase {
	whole := junitCase{Class: s.Name, Name: "happens, heals and loses nothing", Time: "0"}
	switch {
	case s.Verdict == Skipped:
		whole.Skipped = &junitText{Message: s.Reason}
		return []junitCase{whole}
	case s.Verdict == Failed:
		var problems []string
		if s.Reason != "" {
			problems = append(problems, s.Reason)
		}
		for _, run := range s.Runs {
			for _, p := range run.Problems {
				problems = append(problems, run.ID+": "+p)
			}
		}
		whole.Error = &junitText{Message: s.Why(), Text: strings.Join(problems, "\n")}
	}
	out := []junitCase{whole}
	for _, o := range s.Checks {
		c := junitCase{Class: s.Name, Name: o.Check, Time: "0"}
		if o.Unit == "ms" {
			c.Time = fmt.Sprintf("%.3f", o.Max/1000)
		}
		if o.Verdict == Unclear {
			c.Skipped = &junitText{Message: "unclear: " + o.Why, Text: fmt.Sprintf("every run: %v", o.Values)}
		}
		if o.Verdict == Missed {
			c.Failure = &junitText{Message: fmt.Sprintf("max %s, bound %s", o.Format(o.Max), o.Format(o.Bound)), Text: fmt.Sprintf("every run: %v", o.Values)}
		}
		out = append(out, c)
	}
	return out
}
