package main

import (
	"bytes"
	"fmt"
)

// forgedForms are good requests with one thing changed in what stands in them. Those that end in good are to be
// accepted: Windows' own attributes and strings, and names that only a few profiles know.
func forgedForms(good request) map[string]request {
	forms := map[string]request{}
	with := func(name string, change func(r *request)) {
		r := good
		change(&r)
		forms["p256-"+name] = r
	}
	attributes := func(name string, list ...[]byte) {
		with(name, func(r *request) { r.attributes = setOf(context0, list...) })
	}
	subject := func(name string, rdns ...[]byte) {
		with(name, func(r *request) { r.subject = sequence(rdns...) })
	}
	finish := func(name string, change func(der []byte) []byte) {
		with(name, func(r *request) { r.finish = change })
	}

	finish("trailing", func(der []byte) []byte { return append(der, 0) })
	finish("truncated", func(der []byte) []byte { return der[:len(der)-1] })
	finish("longlength", func(der []byte) []byte { return tlvLong(der) })
	finish("indefinite", func(der []byte) []byte { return append(append([]byte{0x30, 0x80}, contents(der)...), 0, 0) })
	finish("extrafield", func(der []byte) []byte { return sequence(contents(der), []byte{5, 0}) })
	with("version1", func(r *request) { r.version = tlv(integer, []byte{1}) })
	with("longversion", func(r *request) { r.version = tlv(integer, []byte{0, 0}) })
	with("noattributes", func(r *request) { r.attributes = nil })
	with("extrainfo", func(r *request) { r.attributes = append(tlv(context0), 5, 0) })

	password := func(text string) []byte {
		return requestAttribute("1.2.840.113549.1.9.7", tlv(utf8String, []byte(text)))
	}
	dns := san(tlv(0x82, []byte("ws-0042.it.example")))
	attributes("unknownattribute", requestAttribute("2.999.1", []byte{5, 0}))
	attributes("twiceattribute", password("one"), password("two"))
	attributes("twiceextensionrequest", extensionRequest(dns), extensionRequest(extension("2.5.29.14", []byte{4, 0})))
	attributes("twovalues", requestAttribute("1.2.840.113549.1.9.7", tlv(utf8String, []byte("a")), tlv(utf8String, []byte("b"))))
	attributes("novalue", requestAttribute("1.2.840.113549.1.9.7"))
	with("unsorted", func(r *request) { r.attributes = tlv(context0, extensionRequest(dns), password("one")) })
	attributes("noextensions", extensionRequest())
	attributes("twiceextension", extensionRequest(dns, san(tlv(0x82, []byte("other.example")))))
	attributes("criticalfalse", extensionRequest(sequence(oid("2.5.29.15"), tlv(boolean, []byte{0}), tlv(octetString, []byte{3, 2, 7, 0x80}))))
	attributes("criticalone", extensionRequest(sequence(oid("2.5.29.15"), tlv(boolean, []byte{1}), tlv(octetString, []byte{3, 2, 7, 0x80}))))
	attributes("extensiontrailing", extensionRequest(extension("2.5.29.15", []byte{3, 2, 7, 0x80, 5, 0})))
	attributes("extensionempty", extensionRequest(extension("2.5.29.15", nil)))
	attributes("extensionber", extensionRequest(extension("2.5.29.15", []byte{3, 0x81, 2, 7, 0x80})))
	var many [][]byte
	for i := range 33 {
		many = append(many, extension(fmt.Sprintf("2.999.%d", i), []byte{5, 0}))
	}
	attributes("manyextensions", extensionRequest(many...))
	deep := []byte{5, 0}
	for range 1000 {
		deep = sequence(deep)
	}
	attributes("deep", extensionRequest(extension("2.999.1", deep)))
	attributes("oversized", extensionRequest(extension("2.999.1", tlv(octetString, bytes.Repeat([]byte{1}, 16<<10)))))

	attributes("sanempty", extensionRequest(san()))
	attributes("santrailing", extensionRequest(extension("2.5.29.17", append(sequence(tlv(0x82, []byte("a"))), 5, 0))))
	attributes("sanemptyname", extensionRequest(san(tlv(0x82))))
	attributes("sannul", extensionRequest(san(tlv(0x82, []byte("ws\x00.example")))))
	attributes("sanspace", extensionRequest(san(tlv(0x81, []byte("a b@example.org")))))
	attributes("sanutf8", extensionRequest(san(tlv(0x86, []byte("https://παράδειγμα.example/")))))
	attributes("sanip5", extensionRequest(san(tlv(0x87, []byte{192, 0, 2, 42, 0}))))
	attributes("sanunknown", extensionRequest(san(tlv(0x89, []byte("x")))))
	attributes("sanconstructed", extensionRequest(san(tlv(0xa2, tlv(0x16, []byte("ws.example"))))))
	directory := tlv(0xa4, name(rdn(attribute("2.5.4.3", tlv(utf8String, []byte("Παπαδόπουλος"))))))
	upn := tlv(0xa0, oid("1.3.6.1.4.1.311.20.2.3"), tlv(context0, tlv(utf8String, []byte("ws@it.example"))))
	attributes("sanother-good", extensionRequest(san(upn, tlv(0x82, []byte("ws-0042.it.example")), directory, tlv(0x88, oid("2.999.1")[2:]))))
	attributes("windows-good",
		requestAttribute("1.3.6.1.4.1.311.13.2.3", tlv(0x16, []byte("10.0.19045.2"))),
		requestAttribute("1.3.6.1.4.1.311.21.20", sequence(tlv(integer, []byte{5}), tlv(utf8String, []byte("ws-0042")), tlv(utf8String, []byte("WS\\clerk")), tlv(utf8String, []byte("certreq")))),
		requestAttribute("1.3.6.1.4.1.311.13.2.2", sequence(tlv(integer, []byte{0}), tlv(bmpString, []byte("\x00K\x00S\x00P")), tlv(bitString, []byte{0}))),
		extensionRequest(dns))

	commonName := func(tag byte, value string) []byte { return attribute("2.5.4.3", tlv(tag, []byte(value))) }
	subject("bmpsubject-good", rdn(commonName(bmpString, "\x03\x93\x03\x99"))) // ΓΙ
	subject("emailsubject-good", rdn(attribute("1.2.840.113549.1.9.1", tlv(0x16, []byte("desk@example.org")))))
	subject("badutf8", rdn(commonName(utf8String, "\xff")))
	subject("badprintable", rdn(commonName(printable, "a@b")))
	subject("badia5", rdn(attribute("1.2.840.113549.1.9.1", tlv(0x16, []byte("d\xe9sk@example.org")))))
	subject("badbmp", rdn(commonName(bmpString, "\x03")))
	subject("surrogatebmp", rdn(commonName(bmpString, "\xd8\x3d\xde\x00")))
	subject("teletexsubject", rdn(commonName(teletex, "ws-0042")))
	subject("emptyrdn", rdn())
	subject("unsortedrdn", set(commonName(utf8String, "b"), commonName(utf8String, "a")))
	subject("twicerdn", set(commonName(utf8String, "a"), commonName(utf8String, "a")))
	subject("extrasubject", rdn(sequence(oid("2.5.4.3"), tlv(utf8String, []byte("a")), tlv(utf8String, []byte("b")))))
	subject("badoid", rdn(sequence([]byte{objectID, 3, 0x55, 0x80, 0x03}, tlv(utf8String, []byte("a")))))
	return forms
}

// contents is what stands in an element of two length bytes or more.
func contents(der []byte) []byte {
	if der[1] < 0x80 {
		return der[2:]
	}
	return der[2+int(der[1]&0x7f):]
}

// tlvLong writes the length of an element in one byte more than it needs.
func tlvLong(der []byte) []byte {
	body := contents(der)
	return append([]byte{der[0], 0x83, 0, byte(len(body) >> 8), byte(len(body))}, body...)
}
