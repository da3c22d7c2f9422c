//go:build cgo

package hsm

import (
	"cmp"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/pkcs11"

	"coldseal/appliance/signer"
)

// maxObjects bounds what is read from a token; a token with more is not ours alone.
const maxObjects = 4096

// key is one of our keys.
type key struct {
	info    signer.KeyInfo
	private pkcs11.ObjectHandle
	public  pkcs11.ObjectHandle
}

// object is what a token says of one of its objects.
type object struct {
	handle  pkcs11.ObjectHandle
	class   uint
	id      []byte
	label   []byte
	spki    []byte // of public keys of a kind we know
	private bool   // sensitive and not extractable; of private keys
}

var classes = map[uint]string{
	pkcs11.CKO_DATA: "data", pkcs11.CKO_CERTIFICATE: "certificate", pkcs11.CKO_PUBLIC_KEY: "public key",
	pkcs11.CKO_PRIVATE_KEY: signer.ClassPrivateKey, pkcs11.CKO_SECRET_KEY: "secret key",
}

// objects reads all objects of a token.
func (t *Token) objects(session pkcs11.SessionHandle) ([]object, error) {
	if err := t.module.FindObjectsInit(session, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true)}); err != nil {
		return nil, err
	}
	var handles []pkcs11.ObjectHandle
	for {
		some, _, err := t.module.FindObjects(session, 256)
		if err != nil {
			_ = t.module.FindObjectsFinal(session) // the first error says more
			return nil, err
		}
		if handles = append(handles, some...); len(some) == 0 || len(handles) > maxObjects {
			break
		}
	}
	if err := t.module.FindObjectsFinal(session); err != nil {
		return nil, err
	}
	if len(handles) > maxObjects {
		return nil, t.trouble(signer.DeviceFails, "the token has more than %d objects", maxObjects)
	}
	all := make([]object, 0, len(handles))
	for _, handle := range handles {
		o, err := t.object(session, handle)
		if err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	return all, nil
}

// reader reads attributes until one can't be read for another reason than that there is none.
type reader struct {
	token   *Token
	session pkcs11.SessionHandle
	handle  pkcs11.ObjectHandle
	err     error
}

// attribute reads one attribute; nil where there is none.
func (r *reader) attribute(kind uint) []byte {
	if r.err != nil {
		return nil
	}
	a, err := r.token.module.GetAttributeValue(r.session, r.handle, []*pkcs11.Attribute{pkcs11.NewAttribute(kind, nil)})
	switch {
	case errors.Is(err, pkcs11.Error(pkcs11.CKR_ATTRIBUTE_TYPE_INVALID)), errors.Is(err, pkcs11.Error(pkcs11.CKR_ATTRIBUTE_SENSITIVE)):
		return nil
	case err != nil:
		r.err = err
		return nil
	case len(a) != 1:
		return nil
	}
	return a[0].Value
}

// flag reads a CK_BBOOL.
func (r *reader) flag(kind uint) (value, known bool) {
	b := r.attribute(kind)
	return len(b) == 1 && b[0] != 0, len(b) == 1
}

// number reads a CK_ULONG, which is in the machine's order: little-endian wherever this runs.
func (r *reader) number(kind uint) (n uint) {
	for _, b := range slices.Backward(r.attribute(kind)) {
		n = n<<8 | uint(b)
	}
	return n
}

// object reads one object.
func (t *Token) object(session pkcs11.SessionHandle, handle pkcs11.ObjectHandle) (object, error) {
	r := reader{token: t, session: session, handle: handle}
	o := object{handle: handle, class: r.number(pkcs11.CKA_CLASS)}
	o.id, o.label = r.attribute(pkcs11.CKA_ID), r.attribute(pkcs11.CKA_LABEL)
	switch o.class {
	case pkcs11.CKO_PUBLIC_KEY:
		o.spki = r.spki()
	case pkcs11.CKO_PRIVATE_KEY:
		sensitive, _ := r.flag(pkcs11.CKA_SENSITIVE)
		extractable, known := r.flag(pkcs11.CKA_EXTRACTABLE)
		o.private = sensitive && known && !extractable
	}
	return o, r.err
}

// spki reads a public key; nil if it is of a kind we have none of.
func (r *reader) spki() []byte {
	var public crypto.PublicKey
	var err error
	switch r.number(pkcs11.CKA_KEY_TYPE) {
	case pkcs11.CKK_RSA:
		public, err = rsaKey(r.attribute(pkcs11.CKA_MODULUS), r.attribute(pkcs11.CKA_PUBLIC_EXPONENT))
	case pkcs11.CKK_EC, ckkEdwards:
		public, err = ecKey(r.attribute(pkcs11.CKA_EC_PARAMS), r.attribute(pkcs11.CKA_EC_POINT))
	default:
		return nil
	}
	if err != nil {
		return nil
	}
	if _, err := signer.AlgorithmOf(public); err != nil {
		return nil
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil
	}
	return der
}

// ours finds our keys among the objects: a private and a public key of one CKA_ID and label, both there once, and says of
// the others that claim to be ours what is odd about them.
func ours(all []object) (keys map[[32]byte]key, odd map[pkcs11.ObjectHandle]string) {
	keys, odd = map[[32]byte]key{}, map[pkcs11.ObjectHandle]string{}
	pairs, labels := map[string][]object{}, map[string]int{}
	for _, o := range all {
		if purposeOf(o.id) != "" {
			pairs[string(o.id)] = append(pairs[string(o.id)], o)
			if o.class == pkcs11.CKO_PRIVATE_KEY {
				labels[string(o.label)]++
			}
		}
	}
	for _, pair := range pairs {
		k, reason := whole(pair)
		if reason == "" && labels[k.info.Label] > 1 {
			reason = "another key has the same label"
		}
		if reason == "" {
			keys[k.info.ID()] = k
			continue
		}
		for _, o := range pair {
			odd[o.handle] = reason
		}
	}
	return keys, odd
}

// whole puts a key together; reason says why it can't be.
func whole(pair []object) (k key, reason string) {
	slices.SortFunc(pair, func(a, b object) int { return int(a.class) - int(b.class) }) // the public key comes first
	switch {
	case len(pair) == 1 && pair[0].class == pkcs11.CKO_PRIVATE_KEY:
		return k, "no public key"
	case len(pair) == 1:
		return k, "no private key"
	case len(pair) > 2:
		return k, fmt.Sprintf("%d objects have the same CKA_ID", len(pair))
	}
	public, private := pair[0], pair[1]
	if public.class != pkcs11.CKO_PUBLIC_KEY || private.class != pkcs11.CKO_PRIVATE_KEY {
		return k, "not a private and a public key"
	}
	k = key{info: signer.KeyInfo{Label: string(private.label), Purpose: purposeOf(private.id), SPKI: public.spki}, private: private.handle, public: public.handle}
	if public.spki == nil {
		return k, "a key of a kind that there is none of here"
	}
	parsed, err := x509.ParsePKIXPublicKey(public.spki)
	if err != nil {
		return k, err.Error()
	}
	if k.info.Algorithm, err = signer.AlgorithmOf(parsed); err != nil {
		return k, err.Error()
	}
	if _, err := k.info.Check(); err != nil {
		return k, err.Error()
	}
	if !private.private {
		return k, "the key can leave the device: it is extractable, or not sensitive"
	}
	return k, ""
}

func (t *Token) findKeys(o *opened) (map[[32]byte]key, error) {
	all, err := t.objects(o.control)
	if err != nil {
		return nil, t.explain("list objects", err)
	}
	keys, _ := ours(all)
	return keys, nil
}

// Keys lists our keys, by label.
func (t *Token) Keys() ([]signer.KeyInfo, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	infos := make([]signer.KeyInfo, 0, len(t.open.keys))
	for _, k := range t.open.keys {
		infos = append(infos, k.info)
	}
	slices.SortFunc(infos, func(a, b signer.KeyInfo) int { return strings.Compare(a.Label, b.Label) })
	return infos, nil
}

func className(class uint) string {
	if name, known := classes[class]; known {
		return name
	}
	return fmt.Sprintf("object of class 0x%x", class)
}

// partner gives the id of a key that is not used, from its public part if that is there.
func partner(o object, all []object) (id [32]byte) {
	for _, other := range all {
		key := o.class == pkcs11.CKO_PUBLIC_KEY || o.class == pkcs11.CKO_PRIVATE_KEY
		if key && other.spki != nil && (other.handle == o.handle || len(o.id) > 0 && string(other.id) == string(o.id)) {
			return signer.KeyInfo{SPKI: other.spki}.ID()
		}
	}
	return id
}

// Objects lists all objects of the token.
func (t *Token) Objects() (list []signer.Object, err error) {
	err = t.use("list objects", func(_ *opened, session pkcs11.SessionHandle) error {
		all, err := t.objects(session)
		if err != nil {
			return err
		}
		keys, odd := ours(all)
		byHandle := map[pkcs11.ObjectHandle][32]byte{}
		for id, k := range keys {
			byHandle[k.private], byHandle[k.public] = id, id
		}
		list = make([]signer.Object, len(all))
		for i, o := range all {
			list[i] = signer.Object{
				Class: className(o.class), Label: readable(o.label, 255), Handle: hex.EncodeToString(o.id[:min(len(o.id), 64)]), Key: byHandle[o.handle],
				Note: odd[o.handle], Ours: purposeOf(o.id) != "",
			}
			if list[i].Key == [32]byte{} {
				list[i].Key = partner(o, all)
			}
			if o.class == pkcs11.CKO_PRIVATE_KEY && !o.private && list[i].Note == "" {
				list[i].Note = "it can leave the device"
			}
		}
		slices.SortFunc(list, func(a, b signer.Object) int {
			return cmp.Or(strings.Compare(a.Label, b.Label), strings.Compare(a.Class, b.Class), strings.Compare(a.Handle, b.Handle))
		})
		return nil
	})
	return list, err
}
