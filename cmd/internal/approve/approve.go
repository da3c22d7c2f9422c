// Package approve is how a person approves requests at a command line: the requests are shown as they will be decided
// about, the person is asked, and the approvals are signed, over the exact bytes. coldseal does it with a key in a file,
// coldseal-station with one on a card; what differs between them is a Key.
//
// Nothing is written before everything is signed and read back, so that what fails leaves no approval behind.
package approve

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coldseal/cmd/internal/cli"
	"coldseal/cmd/internal/introduction"
	"coldseal/cmd/internal/person"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
	"coldseal/protocol/show"
)

// Key is a key that approves, in a file or on a card.
type Key interface {
	person.Key
	// Name says to people which key it is.
	Name() string
	// Holder says whose key it is, which is none of the roster; an error refuses to approve with it.
	Holder(a *introduction.Appliance, id protocol.Digest) (string, error)
}

// Open gets the key ready, once the requests were read.
type Open func() (Key, error)

// approving is one run of approve.
type approving struct {
	appliance  *introduction.Flags
	open       Open
	requests   []string
	dir        string
	statements []string
	expires    string
	challenge  string
	out        string
	yes        bool
	full       bool
	dry        bool
	json       bool

	known *introduction.Appliance
	now   time.Time
	stmts []protocol.Statement
	words io.Writer
}

// wanted is a request that is to be approved.
type wanted struct {
	raw   []byte
	id    protocol.Digest
	req   protocol.Request
	last  *show.Last // what the request renews or takes away, or the subject's last certificate; nil if none was shown
	alone bool
}

// Add makes c the command that approves with the key that open gives, adding the flags for everything else.
func Add(c *cobra.Command, open Open) {
	a := &approving{open: open, appliance: introduction.Add(c)}
	c.Args = cobra.NoArgs
	f := c.Flags()
	f.StringArrayVar(&a.requests, "request", nil, "`file` of a request; may be repeated")
	f.StringVar(&a.dir, "dir", "", "`folder` whose files *.request are all taken")
	f.StringSliceVar(&a.statements, "statement", nil, "`statements` about every request: presence, fingerprint")
	f.StringVar(&a.expires, "expires", "14d", "`how long` the approval may be on its way: days (14d) or hours (12h)")
	f.StringVar(&a.challenge, "challenge", "", "`challenge` that the appliance's console shows, for orders: 32 hexadecimal digits")
	f.StringVar(&a.out, "out", "", "`file`, or folder for several approvals")
	f.BoolVar(&a.yes, "yes", false, "answer yes to the question")
	f.BoolVar(&a.full, "full", false, "show every request whole, however many they are")
	f.BoolVar(&a.dry, "dry-run", false, "show and check, sign nothing")
	f.BoolVar(&a.json, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, _ []string) error { return a.run(c) }
}

func (a *approving) run(c *cobra.Command) (err error) {
	a.now, a.words = time.Now(), c.ErrOrStderr()
	if a.out == "" && !a.dry {
		return cli.Usage("--out says where the approval goes")
	}
	lifetime, err := cli.ParseLifetime("expires", a.expires)
	if err != nil {
		return err
	}
	challenge, err := a.parse()
	if err != nil {
		return err
	}
	if a.known, err = a.appliance.Open(c.InOrStdin()); err != nil {
		return err
	}
	all, err := a.read(c.InOrStdin())
	if err != nil {
		return err
	}
	key, err := a.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, key.Close()) }()
	sheet, who, err := a.present(key, all, challenge)
	if err != nil {
		return err
	}
	if a.dry && a.json {
		return cli.PrintJSON(c.OutOrStdout(), sheet)
	}
	if a.dry {
		return nil
	}
	sure, err := cli.Confirm(a.question(len(all), who), a.yes)
	if err != nil {
		return err
	}
	if !sure {
		return cli.Fail(cli.ExitFailure, "", "nothing was approved")
	}
	approvals, err := a.sign(key, all, challenge, lifetime)
	if err != nil {
		return err
	}
	return a.write(c.OutOrStdout(), approvals, key)
}

func (a *approving) parse() (challenge []byte, err error) {
	for _, name := range a.statements {
		s, known := protocol.ParseStatement(name)
		if !known {
			return nil, cli.Usage("--statement %q is not presence or fingerprint", name)
		}
		a.stmts = append(a.stmts, s)
	}
	slices.Sort(a.stmts)
	a.stmts = slices.Compact(a.stmts)
	if a.challenge == "" {
		return nil, nil
	}
	challenge, err = hex.DecodeString(a.challenge)
	if err != nil || len(challenge) != 16 {
		return nil, cli.Usage("--challenge %q is not 32 hexadecimal digits", a.challenge)
	}
	return challenge, nil
}

// read reads the requests, refuses those that are for another appliance or too old, and asks the policy which are
// approved alone.
func (a *approving) read(stdin io.Reader) ([]wanted, error) {
	files := slices.Clone(a.requests)
	if a.dir != "" {
		found, err := filepath.Glob(filepath.Join(escapeGlob(a.dir), "*.request"))
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", a.dir, err)
		}
		if len(found) == 0 {
			return nil, cli.Fail(cli.ExitNotFound, "", "there is no file *.request in %s", a.dir)
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		return nil, cli.Usage("--request or --dir says what is to be approved")
	}
	var all []wanted
	seen := map[protocol.Digest]string{}
	for _, name := range files {
		w, err := a.readOne(name, stdin)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if other, again := seen[w.id]; again {
			fmt.Fprintf(a.words, "%s is the same request as %s\n", show.Text(name), show.Text(other))
			continue
		}
		seen[w.id] = name
		all = append(all, w)
	}
	return all, nil
}

// escapeGlob keeps a folder's name from being read as a pattern.
func escapeGlob(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

func (a *approving) readOne(name string, stdin io.Reader) (wanted, error) {
	raw, err := cli.ReadInput(name, stdin, protocol.MaxRequest)
	if err != nil {
		return wanted{}, err
	}
	w := wanted{raw: raw, id: protocol.ID(raw)}
	var refusal *protocol.Refusal
	if w.req, refusal = protocol.ParseRequest(raw); refusal != nil {
		return w, cli.Refused(refusal)
	}
	if w.req.Appliance != a.known.Digest {
		return w, cli.Refused(protocol.Refuse(protocol.CodeWrongAppliance, "appliance", w.req.Appliance.String()))
	}
	if a.now.Unix() >= w.req.Expires && w.req.Kind != protocol.KindSetTime {
		return w, cli.Refused(protocol.Refuse(protocol.CodeRequestExpired, "expires", protocol.Date(w.req.Expires)))
	}
	if err := a.before(&w, name); err != nil {
		return w, err
	}
	rule, known := a.rule(&w.req)
	w.alone = !known || rule.Alone
	for _, s := range rule.Statements {
		if !slices.Contains(a.stmts, s) {
			a.warn("%s: the policy asks approvers to state %s; without it the approval will not count", name, s)
		}
	}
	return w, nil
}

// before opens the proof that lies beside a request, of the certificate there is already.
func (a *approving) before(w *wanted, name string) error {
	data, err := cli.ReadInput(strings.TrimSuffix(name, ".request")+".proof", nil, auditlog.MaxInclusionProof)
	_, about := w.req.About()
	switch {
	case errors.Is(err, fs.ErrNotExist) && about != nil:
		a.warn("%s: the certificate %x was not shown: coldseal-agent pending writes its proof beside the request", name, about)
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	if w.last, err = show.OpenLast(data, a.known.Digest); err == nil {
		err = w.last.Of(&w.req)
	}
	if err != nil {
		return cli.Fail(cli.ExitVerify, "have the proof written again with coldseal-agent pending; if it comes back, tell an officer", "the proof beside it: %w", err)
	}
	return nil
}

// rule asks the policy of the introduction; one that isn't known is for requests that are approved alone, as all may be.
func (a *approving) rule(r *protocol.Request) (policy.Rule, bool) {
	if r.Kind.IsOrder() || r.Profile == "" {
		return policy.Rule{}, false
	}
	profile, found := a.known.Policy.Profile(r.Profile)
	if !found {
		a.warn("the introduction knows no profile %s; get a newer one", r.Profile)
		return policy.Rule{}, false
	}
	if r.Kind.NamesProfile() && profile.Digest != r.ProfileDigest {
		a.warn("the profile %s is not the one that the introduction has; the appliance may refuse the request", r.Profile)
	}
	origin := protocol.Origin(0)
	if c, refusal := r.Issuance(); refusal == nil {
		origin = c.Origin
	}
	return profile.RuleFor(r.Kind, origin), true
}

func (a *approving) warn(format string, args ...any) {
	fmt.Fprintf(a.words, "warning: %s\n", show.Text(fmt.Sprintf(format, args...)))
}

// present shows what is going to be approved, and as whom.
func (a *approving) present(key Key, all []wanted, challenge []byte) (show.Sheet, string, error) {
	verifier, err := cose.NewKey(key.Public())
	if err != nil {
		return nil, "", fmt.Errorf("approve with %s: %w", key.Name(), err)
	}
	raws := make([][]byte, len(all))
	for i, w := range all {
		raws[i] = w.raw
		if w.req.Kind.IsOrder() && len(challenge) == 0 {
			a.warn("an order is approved at the appliance's console: give the --challenge that it shows")
		}
	}
	sheet, err := show.Requests(raws, func(i int) (*show.Last, *policy.CompiledProfile) {
		profile, _ := a.known.Policy.Profile(all[i].req.Profile)
		return all[i].last, profile
	}, a.full)
	if err != nil {
		return nil, "", err
	}
	if err := sheet.Write(a.words); err != nil {
		return nil, "", err
	}
	id := protocol.Digest(verifier.ID())
	if who, found := a.officer(id, all); found {
		return sheet, who, nil
	}
	fmt.Fprintln(a.words, "the key is not an officer's: the appliance looks for its approver certificate")
	who, err := key.Holder(a.known, id)
	return sheet, who, err
}

// officer says whose key it is of those who decide orders: an officer's, that of somebody who may recover the roster, or,
// for an order that brings a roster, one of its officers', who has to approve it as well.
func (a *approving) officer(id protocol.Digest, all []wanted) (string, bool) {
	if o, _, found := auditlog.Officer(a.known.Roster, id); found {
		if o.Suspended {
			a.warn("%s is suspended: the approval will not count", o.Person)
		}
		return o.Person + " (" + o.Name + ")", true
	}
	if len(all) != 1 || all[0].req.Kind != protocol.KindRoster && all[0].req.Kind != protocol.KindRecovery {
		return "", false
	}
	if o, _, found := auditlog.Officer(a.known.Roster.Recovery.Roster(), id); found {
		return o.Person + " (" + o.Name + ", for recovery)", true
	}
	if c, refusal := all[0].req.Replacement(); refusal == nil {
		if next, err := policy.DecodeRoster(c.New); err == nil {
			if o, _, found := auditlog.Officer(next, id); found {
				return o.Person + " (" + o.Name + ", of the new roster)", true
			}
		}
	}
	return "", false
}

func (a *approving) question(n int, who string) string {
	stating := ""
	for i, s := range a.stmts {
		stating += cmp.Or(map[bool]string{true: ", stating "}[i == 0], " and ") + s.String()
	}
	requests := fmt.Sprintf("%d requests", n)
	if n == 1 {
		requests = "this request"
	}
	return show.Text(fmt.Sprintf("Approve %s as %s%s?", requests, who, stating))
}
