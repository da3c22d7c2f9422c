// Package piv keeps keys of CAs, seals and receivers on a PIV card such as a YubiKey. It is a device of the signer
// process (signer.Device), and on this side the only importer of PC/SC.
//
// A card is found by its serial number, and used by nobody else while it is open. Its keys are made on it and never leave
// it; a PIN opens them once for a session. What a key is called and what it is for stands in the certificate object of
// its slot, so a card carries all that is known about it: the certificate is a label, signed by a key that nobody kept,
// and nothing that anybody should believe.
//
// A slot is labelled as reserved before a key is made in it, so that whatever is interrupted leaves a slot that the next
// key may have, and never a key without a name. A card that was pulled is opened again once, if it is the same. What can't
// be done: a card has no counter, and Ed25519 wants the whole message on the card, which is too small for a CRL. The
// appliance verifies the signatures.
//
// Beside its keys, a card may hold its owner's share of a backup's key (Share), in an object that wants the PIN. That is raw
// commands over a little PC/SC of our own, for piv-go reads and writes no such object.
//
// PC/SC is C: without cgo the package only says that it is missing.
package piv
