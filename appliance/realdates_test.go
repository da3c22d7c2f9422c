package appliance_test

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"coldseal/protocol"
)

// TestDates goes from 2035 to 2053 with one hierarchy: dates past 2049 are GeneralizedTime (RFC 5280 section 4.1.2.5),
// ends are inclusive, and nothing outlives its issuer.
func TestDates(t *testing.T) {
	t.Parallel()
	start := time.Date(2035, 1, 1, 0, 0, 0, 0, time.UTC)
	w := &realWorld{world: newWorldAt(t, start)}
	w.root = w.createKey("root", "P-256")
	rootDER := w.mustOrder(w.signCA(w.root, w.root, "root", bearers(0), 0)).Certificate
	rootEnd := start.AddDate(0, 0, 7300).Add(-time.Second) // 20 years less five leap days
	hasDates(t, "root", rootDER, "\x17\x0d350101000000Z", "\x18\x0f20541226235959Z")

	w.setTime(time.Date(2044, 6, 1, 12, 0, 0, 0, time.UTC))
	w.issuing = w.createKey("issuing", "P-256")
	issuingDER := w.mustOrder(w.signCA(w.root, w.issuing, "issuing-ca", bearers(0), 0)).Certificate
	issuingEnd := w.now.AddDate(0, 0, 3650).Add(-time.Second)
	hasDates(t, "issuing CA", issuingDER, "\x17\x0d440601120000Z", "\x18\x0f20540530115959Z")
	w.enrol()
	j := newTrial(t, "P-256", w.caCertificates())
	db := j.nssDatabase(w.now)

	files := []string{"openssl-p256-plain.csr", "certtool-p256-plain.csr", "certutil-p256-plain.csr", "keytool-p256-plain.csr", "certutil-p256-san.csr", "keytool-p256-san.csr"}
	stations := usages()[len(usages())-1]
	ask := func(from, to int64) *wish {
		x := &wish{usage: stations, n: len(files), key: "P-256", file: files[0], from: from, to: to}
		files = files[1:]
		x.result = w.send(w.group(x))[x.id]
		return x
	}
	for _, c := range []struct {
		signed      time.Time
		notAfter    time.Time // asked for
		first, last string    // as they stand in the certificate
		end         time.Time // inclusive
	}{
		{
			signed: w.now, first: "\x17\x0d440601120000Z", last: "\x17\x0d460601115959Z",
			end: time.Date(2046, 6, 1, 11, 59, 59, 0, time.UTC),
		},
		{
			signed: time.Date(2049, 6, 1, 0, 0, 0, 0, time.UTC), first: "\x17\x0d490601000000Z", last: "\x18\x0f20510531235959Z",
			end: time.Date(2051, 5, 31, 23, 59, 59, 0, time.UTC),
		},
		{
			signed: time.Date(2053, 6, 1, 0, 0, 0, 0, time.UTC), first: "\x18\x0f20530601000000Z", last: "\x18\x0f20540530115959Z",
			end: issuingEnd, // the usual term is cut at the issuer's end
		},
		{
			signed: time.Date(2053, 7, 1, 0, 0, 0, 0, time.UTC), notAfter: issuingEnd, first: "\x18\x0f20530701000000Z", last: "\x18\x0f20540530115959Z",
			end: issuingEnd, // to the second
		},
	} {
		if c.signed.After(w.now) {
			w.setTime(c.signed)
		}
		to := int64(0)
		if !c.notAfter.IsZero() {
			to = c.notAfter.Unix()
		}
		x := ask(0, to)
		x.check(t)
		hasDates(t, x.file, x.result.Certificate, c.first, c.last)
		e := j.add(x)
		// openssl takes the end itself for expired, a second early: RFC 5280 section 4.1.2.5 says inclusive, as NSS does.
		for at, want := range map[time.Time]string{
			c.signed.Add(-time.Second): "not yet valid", c.signed: "", c.end.Add(-time.Second): "", c.end.Add(time.Second): "expired",
		} {
			words, content := j.run("openssl", "verify", "-x509_strict", "-attime", fmt.Sprint(at.Unix()), "-CAfile", j.files["root"], "-untrusted", j.files["issuing"], e.path)
			if content != (want == "") || !strings.Contains(words, want) {
				t.Errorf("openssl on %s at %s: want %q, it says %s", x, at, want, words)
			}
		}
		// NSS takes years of two digits, up to 2049, and a day of slack at the beginning.
		for at, want := range map[time.Time]bool{c.signed.Add(-25 * time.Hour): false, c.signed: true, c.end: true, c.end.Add(time.Second): false} {
			if at.Year() > 2049 {
				continue
			}
			words, content := j.run("vfychain", "-d", db, "-b", at.Format(nssTime), "-u", "0", "-a", e.path)
			if good := content && strings.Contains(words, "Chain is good!"); good != want || !want && !strings.Contains(words, "expired") {
				t.Errorf("NSS on %s at %s: %s", x, at, words)
			}
		}
		// GnuTLS takes no time to judge at: nothing but the time may be wrong, and the dates be read as they are.
		words, _ := j.run("certtool", "--verify", "--verify-profile", "medium", "--load-ca-certificate", j.files["root"], "--infile", j.concatenate("chain.pem", e.path, j.files["issuing"]))
		if !strings.Contains(words, "Chain verification output: Not verified. The certificate is NOT trusted. The certificate chain uses not yet valid certificate. \n") {
			t.Errorf("GnuTLS on %s: %s", x, words)
		}
		words, _ = j.run("certtool", "--certificate-info", "--infile", e.path)
		if end := c.end.Format("Not After: Mon Jan 02 15:04:05 UTC 2006\n"); !strings.Contains(words, end) {
			t.Errorf("GnuTLS on %s: want %s, it says %s", x, end, words)
		}
	}
	for _, c := range []struct {
		what     string
		from, to int64
		code     protocol.Code
	}{
		{"beyond the issuer", 0, issuingEnd.Unix() + 1, protocol.CodeValidityOutside},
		{"beginning beyond the issuer", issuingEnd.Unix() + 1, issuingEnd.Unix() + 2, protocol.CodeValidityOutside},
	} {
		if x := ask(c.from, c.to); x.result.Refusal == nil || x.result.Refusal.Code != c.code {
			t.Errorf("%s: %s, %v", c.what, x.result.Outcome, x.result.Refusal)
		}
	}
	w.lateCA(t, rootEnd)
}

// lateCA signs a CA that would outlive the root.
func (w *realWorld) lateCA(t *testing.T, rootEnd time.Time) {
	t.Helper()
	late := w.createKey("late", "P-256")
	if r := w.order(w.signCA(w.root, late, "issuing-ca", bearers(1), rootEnd.Unix()+1)); r.Refusal == nil || r.Refusal.Code != protocol.CodeValidityOutside {
		t.Errorf("a CA beyond the root: %s, %v", r.Outcome, r.Refusal)
	}
	der := w.mustOrder(w.signCA(w.root, late, "issuing-ca", bearers(1), 0)).Certificate
	hasDates(t, "late CA", der, "\x18\x0f20530701000000Z", "\x18\x0f20541226235959Z")
}

// setTime has the officers set the clock, which nobody would believe otherwise.
func (w *realWorld) setTime(at time.Time) {
	w.t.Helper()
	w.now = at
	w.mustOrder(w.request(protocol.KindSetTime, protocol.SetTime{Time: at.Unix()}))
}

// hasDates looks for the encoded validity.
func hasDates(t *testing.T, what string, der []byte, first, last string) {
	t.Helper()
	if !bytes.Contains(der, []byte("\x30"+string(rune(len(first)+len(last)))+first+last)) {
		c := must[*x509.Certificate](t)(x509.ParseCertificate(der))
		t.Errorf("%s: valid from %s to %s, want %q to %q", what, c.NotBefore, c.NotAfter, first, last)
	}
}
