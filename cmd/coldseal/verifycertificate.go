package main

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/csr"
	"coldseal/protocol/pathcheck"
	"coldseal/protocol/show"
)

func verifyChainCommand() *cobra.Command {
	return verifyVerb("chain --trust ROOT [--untrusted CA]… [--crl FILE]… LEAF", "decide about a certificate under a root",
		"chain accepts LEAF if a path without any fault of RFC 5280 leads to a ROOT. Where a CRL is given, every certificate but the\n"+
			"root needs a current one that covers it. Files of --trust, --untrusted and --crl may hold more than one.",
		func(c *cobra.Command) verification {
			var trust, untrusted, crls []string
			var purpose string
			f := c.Flags()
			f.StringArrayVar(&trust, "trust", nil, "`file` of self-signed certificates to trust")
			f.StringArrayVar(&untrusted, "untrusted", nil, "`file` of CA certificates that may be on the way")
			f.StringArrayVar(&crls, "crl", nil, "`file` of CRLs")
			f.StringVar(&purpose, "purpose", "", "extended key usage that is needed, by `name` such as serverAuth or as an OID")
			at := addTime(c)
			return func(c *cobra.Command, v *verdict, file string) error {
				if len(trust) == 0 {
					return cli.Usage("--trust says which root is trusted")
				}
				if err := stdinOnce(slices.Concat([]string{file}, trust, untrusted, crls)...); err != nil {
					return err
				}
				in := pathcheck.Input{Purpose: purpose}
				if oid, known := purposes()[purpose]; known {
					in.Purpose = oid
				}
				var err error
				if in.Time, err = at(); err != nil {
					return err
				}
				if in.Anchors, err = readAll(c, trust, pemCertificate, pathcheck.MaxCertificate*pathcheck.MaxCandidates); err != nil {
					return err
				}
				if in.Intermediates, err = readAll(c, untrusted, pemCertificate, pathcheck.MaxCertificate*pathcheck.MaxCandidates); err != nil {
					return err
				}
				if in.CRLs, err = readAll(c, crls, pemCRL, pathcheck.MaxCRL); err != nil {
					return err
				}
				if in.Leaf, err = readOne(c, file, pemCertificate, pathcheck.MaxCertificate); err != nil {
					return err
				}
				result := pathcheck.Chain(in)
				v.reject(result.Reasons...)
				v.Facts = chainFacts(result.Chain)
				return nil
			}
		})
}

// purposes are names of extended key usages as policies have them.
func purposes() map[string]string {
	return map[string]string{
		"serverAuth": "1.3.6.1.5.5.7.3.1", "clientAuth": "1.3.6.1.5.5.7.3.2", "codeSigning": "1.3.6.1.5.5.7.3.3",
		"emailProtection": "1.3.6.1.5.5.7.3.4", "timeStamping": "1.3.6.1.5.5.7.3.8", "OCSPSigning": "1.3.6.1.5.5.7.3.9",
		"documentSigning": "1.3.6.1.5.5.7.3.36", "smartcardLogon": "1.3.6.1.4.1.311.20.2.2",
	}
}

func chainFacts(chain [][]byte) show.Sheet {
	var lines []string
	for _, der := range chain {
		line := "sha256 " + protocol.DigestOf(der).String()
		if cert, err := x509.ParseCertificate(der); err == nil { // for eyes only; it was accepted already
			line = fmt.Sprintf("%s, serial %x, %s", cert.Subject, cert.SerialNumber, line)
		}
		lines = append(lines, line)
	}
	return show.Sheet{{Name: "chain", List: lines}}
}

// addIssuer adds --issuer and --time; the function reads both.
func addIssuer(c *cobra.Command) func(c *cobra.Command, file string) (issuer []byte, now int64, err error) {
	var name string
	c.Flags().StringVar(&name, "issuer", "", "`file` with the CA's certificate, which is trusted")
	at := addTime(c)
	return func(c *cobra.Command, file string) ([]byte, int64, error) {
		if name == "" {
			return nil, 0, cli.Usage("--issuer says whose it is")
		}
		if err := stdinOnce(file, name); err != nil {
			return nil, 0, err
		}
		now, err := at()
		if err != nil {
			return nil, 0, err
		}
		issuer, err := readOne(c, name, pemCertificate, pathcheck.MaxCertificate)
		return issuer, now, err
	}
}

func verifyCRLCommand() *cobra.Command {
	return verifyVerb("crl --issuer CA FILE", "decide about a CRL of a CA", "crl reads all entries of FILE, one CRL.",
		func(c *cobra.Command) verification {
			read := addIssuer(c)
			return func(c *cobra.Command, v *verdict, file string) error {
				issuer, now, err := read(c, file)
				if err != nil {
					return err
				}
				der, err := readOne(c, file, pemCRL, pathcheck.MaxCRL)
				if err != nil {
					return err
				}
				report, reasons := pathcheck.CRL(der, issuer, now)
				v.reject(reasons...)
				v.Facts = show.Sheet{
					{Name: "number", Value: report.Number}, {Name: "this update", Value: protocol.Date(report.ThisUpdate)},
					{Name: "next update", Value: protocol.Date(report.NextUpdate)}, {Name: "entries", Value: report.Entries},
					{Name: "partial", Value: report.Partial},
				}
				return nil
			}
		})
}

func verifyOCSPCommand() *cobra.Command {
	return verifyVerb("ocsp --issuer CA FILE", "decide about an OCSP response for certificates of a CA",
		"ocsp accepts FILE, one response in DER, if the CA itself signed it, or a responder with a certificate of the CA for that.",
		func(c *cobra.Command) verification {
			read := addIssuer(c)
			return func(c *cobra.Command, v *verdict, file string) error {
				issuer, now, err := read(c, file)
				if err != nil {
					return err
				}
				der, err := cli.ReadInput(file, c.InOrStdin(), pathcheck.MaxOCSP)
				if err != nil {
					return err
				}
				answers, reasons := pathcheck.OCSP(der, issuer, now)
				v.reject(reasons...)
				var items []show.Sheet
				for _, a := range answers {
					s := show.Sheet{{Name: "serial", Value: fmt.Sprintf("%x", a.Serial)}, {Name: "status", Value: a.Status}}
					if a.Date != 0 {
						s = append(s, show.Row{Name: "since", Value: protocol.Date(a.Date)})
					}
					items = append(items, append(s, show.Row{Name: "next update", Value: protocol.Date(a.NextUpdate)}))
				}
				v.Facts = show.Sheet{{Name: "answers", Items: items}}
				return nil
			}
		})
}

func verifyCSRCommand() *cobra.Command {
	return verifyVerb("csr FILE", "decide about a certificate request: form, key quality, proof of possession",
		"csr accepts FILE if the appliance would accept its form and key. What it asks for is not judged.",
		func(*cobra.Command) verification {
			return func(c *cobra.Command, v *verdict, file string) error {
				data, err := cli.ReadInput(file, c.InOrStdin(), 4*csr.MaxSize)
				if err != nil {
					return err
				}
				if bytes.Contains(data, []byte("-----BEGIN ")) && data[0] != 0x30 {
					data, err = csr.DecodePEM(data)
				}
				if err == nil {
					_, err = csr.Check(data)
				}
				if refused := new(csr.Error); errors.As(err, &refused) {
					v.reject(pathcheck.Reason{Code: pathcheck.Code(refused.Reason), Words: refused.Detail})
					return nil
				}
				if err == nil {
					v.Facts = show.CSR(data)
				}
				return err
			}
		})
}
