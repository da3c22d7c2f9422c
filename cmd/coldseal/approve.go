package main

import (
	"cmp"
	"crypto"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"coldseal/cmd/internal/cli"
	"coldseal/protocol"
	"coldseal/protocol/auditlog"
	"coldseal/protocol/cose"
	"coldseal/protocol/policy"
	"coldseal/protocol/show"
)

// approving is one run of approve.
type approving struct {
	appliance  *applianceFlags
	key        *keyFlags
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

	world *world
	now   time.Time
	stmts []protocol.Statement
	words io.Writer
}

// wanted is a request that is to be approved.
type wanted struct {
	raw   []byte
	id    protocol.Digest
	req   protocol.Request
	alone bool
}

func approveCommand() *cobra.Command {
	a := &approving{}
	c := &cobra.Command{
		Use:   "approve --key FILE --introduction FILE --digest DIGEST --request FILE… --out FILE",
		Short: "approve requests, over their exact bytes",
		Long: "approve shows the requests, checks that they are for the appliance whose digest was typed, asks, and signs. Requests that\n" +
			"the policy wants approved alone, and orders, get an approval each; the others share one for up to 1,024. If there is more\n" +
			"than one approval, or --out ends in a slash, --out is a folder. What is stated is stated of every request given: state\n" +
			"presence only of those who were here.",
		Args: cobra.NoArgs,
	}
	a.appliance, a.key = addAppliance(c), addKey(c)
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
	return c
}

func (a *approving) run(c *cobra.Command) error {
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
	if a.world, err = a.appliance.open(c.InOrStdin()); err != nil {
		return err
	}
	all, err := a.read(c.InOrStdin())
	if err != nil {
		return err
	}
	key, err := a.key.read()
	if err != nil {
		return err
	}
	who, err := a.present(key, all, challenge)
	if err != nil || a.dry {
		return err
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
	if w.req.Appliance != a.world.digest {
		return w, cli.Refused(protocol.Refuse(protocol.CodeWrongAppliance, "appliance", w.req.Appliance.String()))
	}
	if a.now.Unix() >= w.req.Expires && w.req.Kind != protocol.KindSetTime {
		return w, cli.Refused(protocol.Refuse(protocol.CodeRequestExpired, "expires", protocol.Date(w.req.Expires)))
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

// rule asks the policy of the introduction; one that isn't known is for requests that are approved alone, as all may be.
func (a *approving) rule(r *protocol.Request) (policy.Rule, bool) {
	if r.Kind.IsOrder() || r.Profile == "" {
		return policy.Rule{}, false
	}
	profile, found := a.world.policy.Profile(r.Profile)
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
func (a *approving) present(key crypto.Signer, all []wanted, challenge []byte) (string, error) {
	verifier, err := cose.NewKey(key.Public())
	if err != nil {
		return "", fmt.Errorf("approve with %s: %w", a.key.file, err)
	}
	raws := make([][]byte, len(all))
	for i, w := range all {
		raws[i] = w.raw
		if w.req.Kind.IsOrder() && len(challenge) == 0 {
			a.warn("an order is approved at the appliance's console: give the --challenge that it shows")
		}
	}
	sheet, err := show.Requests(raws, a.full)
	if err != nil {
		return "", err
	}
	if err := sheet.Write(a.words); err != nil {
		return "", err
	}
	id := protocol.Digest(verifier.ID())
	who := "the holder of the key " + id.String()[:16]
	if o, _, found := auditlog.Officer(a.world.roster, id); found {
		who = o.Person + " (" + o.Name + ")"
		if o.Suspended {
			a.warn("%s is suspended: the approval will not count", o.Person)
		}
	} else {
		fmt.Fprintln(a.words, "the key is not an officer's: the appliance looks for its approver certificate")
	}
	return who, nil
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
