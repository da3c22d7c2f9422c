// Package hsm keeps keys in a token behind a PKCS#11 library: an HSM, SoftHSM, NSS softokn. It is a device of the signer
// process (signer.Device), and the only importer of PKCS#11.
//
// Keys are made in the token: sensitive, not extractable, for one use. They are found by what they carry there, not by a
// file beside it: CKA_LABEL is the key's label, CKA_ID says that it is ours and what it is for. So a cloned token works,
// and whatever else is on the token is seen and left alone.
//
// Libraries and tokens differ, and fail. A token is found by its label (slots move), or by its serial number too.
// Hashing is done here, for many tokens have raw mechanisms only. Several sessions are open, for some tokens sign faster
// then. One that is lost is opened again, once, on the same token, and what was asked is asked again. The package does
// not verify signatures (the appliance does), and can't make a library come back that hangs (signer.Watch).
//
// The library is C: without cgo the package only says that it is missing.
package hsm
