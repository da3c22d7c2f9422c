package main

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/zmap/zcrypto/x509"
	zlint "github.com/zmap/zlint/v3/lint"
	_ "github.com/zmap/zlint/v3/lints/community"
	_ "github.com/zmap/zlint/v3/lints/rfc"
	"golang.org/x/crypto/ocsp"

	"coldseal/appliance/lint"
	"coldseal/appliance/wire"
)

// set gives the sources, as zlint names them, of one of our sets.
func set(name string) ([]zlint.LintSource, bool) {
	switch name {
	case "rfc5280":
		return []zlint.LintSource{zlint.RFC3279, zlint.RFC5280, zlint.RFC5480, zlint.RFC5891, zlint.RFC6960, zlint.RFC6962, zlint.RFC8813}, true
	case "community":
		return []zlint.LintSource{zlint.Community}, true
	}
	return nil, false
}

// selection is the lints of one Config. zlint would make a Registry of them, which takes milliseconds to filter and
// sorts all names for every certificate; going through the lints ourselves takes microseconds, once for each batch.
type selection struct {
	threshold    lint.Status
	certificates []*zlint.CertificateLint
	crls         []*zlint.RevocationListLint
	responses    []*zlint.OcspResponseLint
}

// choose collects the lints that config asks for; it refuses sets and lints that don't exist.
func choose(config lint.Config) (*selection, *wire.Refused) {
	if len(config.Sets) == 0 {
		return nil, &wire.Refused{Code: lint.CodeUnknownSet, Message: "no lint set named"}
	}
	var sources []zlint.LintSource
	for _, name := range config.Sets {
		of, ok := set(name)
		if !ok {
			return nil, &wire.Refused{Code: lint.CodeUnknownSet, Message: fmt.Sprintf("no lint set %q", name)}
		}
		sources = append(sources, of...)
	}
	registry := zlint.GlobalRegistry()
	for _, name := range config.Ignore {
		if registry.CertificateLints().ByName(name) == nil && registry.RevocationListLints().ByName(name) == nil &&
			registry.OcspResponseLints().ByName(name) == nil {
			return nil, &wire.Refused{Code: lint.CodeUnknownLint, Message: fmt.Sprintf("no lint %q", name)}
		}
	}
	wanted := func(l zlint.LintMetadata) bool {
		return slices.Contains(sources, l.Source) && !slices.Contains(config.Ignore, l.Name)
	}
	s := &selection{threshold: config.Threshold}
	for _, l := range registry.CertificateLints().Lints() {
		if wanted(l.LintMetadata) {
			s.certificates = append(s.certificates, l)
		}
	}
	for _, l := range registry.RevocationListLints().Lints() {
		if wanted(l.LintMetadata) {
			s.crls = append(s.crls, l)
		}
	}
	for _, l := range registry.OcspResponseLints().Lints() {
		if wanted(l.LintMetadata) {
			s.responses = append(s.responses, l)
		}
	}
	return s, nil
}

// examination parses one kind of thing and puts every lint to it.
type examination func(s *selection, der []byte, report func(name string, result *zlint.LintResult)) error

func examineCertificate(s *selection, der []byte, report func(string, *zlint.LintResult)) error {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	config := zlint.NewEmptyConfig()
	for _, l := range s.certificates {
		report(l.Name, l.Execute(c, config))
	}
	return nil
}

func examineCRL(s *selection, der []byte, report func(string, *zlint.LintResult)) error {
	c, err := x509.ParseRevocationList(der)
	if err != nil {
		return err
	}
	config := zlint.NewEmptyConfig()
	for _, l := range s.crls {
		report(l.Name, guard(l.Name, func() *zlint.LintResult { return l.Execute(c, config) }))
	}
	return nil
}

func examineResponse(s *selection, der []byte, report func(string, *zlint.LintResult)) error {
	r, err := ocsp.ParseResponse(der, nil)
	if err != nil {
		return err
	}
	config := zlint.NewEmptyConfig()
	for _, l := range s.responses {
		report(l.Name, guard(l.Name, func() *zlint.LintResult { return l.Execute(r, config) }))
	}
	return nil
}

// guard makes the panic of a lint a fatal result of it, as zlint itself does for lints of certificates only.
func guard(name string, execute func() *zlint.LintResult) (result *zlint.LintResult) {
	defer func() {
		if cause := recover(); cause != nil {
			result = &zlint.LintResult{Status: zlint.Fatal, Details: panicOf(name) + fmt.Sprint(cause)}
		}
	}()
	return execute()
}

// panicOf is how zlint begins the details of a panic.
func panicOf(name string) string { return "'" + name + "' panicked. Error: " }

// check gives the findings over one item, at or above the threshold, in the order of the lints' names. It never panics.
func (s *selection) check(examine examination, der []byte) (findings []lint.Finding) {
	add := func(name string, status lint.Status, details string) {
		findings = append(findings, lint.Finding{Lint: name, Status: status, Details: clip(details)})
	}
	defer func() {
		if cause := recover(); cause != nil {
			add(lint.Panicked, lint.Fatal, fmt.Sprintf("parser: %v", cause))
		}
	}()
	err := examine(s, der, func(name string, result *zlint.LintResult) {
		status := statusOf(result)
		switch {
		case status == lint.Fatal && strings.HasPrefix(result.Details, panicOf(name)):
			add(lint.Panicked, lint.Fatal, result.Details)
		case status >= s.threshold && status > 0:
			add(name, status, result.Details)
		}
	})
	if err != nil {
		add(lint.Unparseable, lint.Fatal, err.Error())
	}
	slices.SortStableFunc(findings, func(a, b lint.Finding) int { return strings.Compare(a.Lint, b.Lint) })
	return findings
}

// statusOf is 0 for what is no finding.
func statusOf(result *zlint.LintResult) lint.Status {
	switch result.Status {
	case zlint.Warn:
		return lint.Warn
	case zlint.Error:
		return lint.Error
	case zlint.Fatal:
		return lint.Fatal
	}
	return 0
}

// clip makes details fit for the wire: valid UTF-8 of at most lint.MaxDetails bytes.
func clip(details string) string {
	if len(details) > lint.MaxDetails {
		details = details[:lint.MaxDetails-len("…")]
		for len(details) > 0 && !utf8.RuneStart(details[len(details)-1]) {
			details = details[:len(details)-1]
		}
		details += "…"
	}
	return strings.ToValidUTF8(details, "?")
}
