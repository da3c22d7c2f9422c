"""Decodes and verifies the vectors of a folder by request.md, approval.md, bundle.md and response.md, with none of our code."""
import hashlib, io, pathlib, re, sys
import cbor2
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

folder = pathlib.Path(sys.argv[1])
now_judged = ""
MAX_TIME = 253402300799
NAME = re.compile(r"[a-z0-9-]{1,32}")
BODY = re.compile(r"[a-z0-9-]+(/[a-z0-9-]+){0,7}")


def check(ok, what):
    if not ok:
        sys.exit("refused: %s: %s" % (now_judged, what))


def load(name):
    global now_judged
    now_judged = name
    lines = (folder / (name + ".txt")).read_text().splitlines()
    return bytes.fromhex("".join(line.split("#")[0] for line in lines))


def sha(data):
    return hashlib.sha256(data).digest()


def load_keys():
    lines = [l.split() for l in (folder / "keys.txt").read_text().splitlines() if not l.startswith("#")]
    return {name: bytes.fromhex(spki) for name, spki in lines}


keys = load_keys()
by_id = {sha(spki): spki for spki in keys.values()}


def decode(data):
    """One item of deterministic CBOR, and nothing after it."""
    stream = io.BytesIO(data)
    value = cbor2.CBORDecoder(stream).decode()
    check(stream.read() == b"" and cbor2.dumps(value, canonical=True) == data, "not deterministic CBOR")
    return value


def fields(m, **wanted):
    """wanted: name=(label, type, test) for a field that must be there, (label, type, test, None) for one that may be."""
    check(isinstance(m, dict), "not a map")
    labels = {w[0] for w in wanted.values()}
    check(set(m) <= labels, "unknown field")
    out = {}
    for name, w in wanted.items():
        if w[0] not in m:
            check(len(w) == 4, name + " is missing")
            out[name] = None
            continue
        value = m[w[0]]
        check(type(value) is w[1], name + " is of another type")
        check(len(w) != 4 or value not in (0, "", b"", [], {}), name + " is empty and there")
        check(w[2] is None or w[2](value), name + " is not valid")
        out[name] = value
    return out


def size(n):
    return lambda value: len(value) == n


def is_name(text):
    return NAME.fullmatch(text) is not None


def is_body(text):
    return BODY.fullmatch(text) is not None and len(text) <= 256


def is_text(text):
    return 0 < len(text.encode()) <= 256


def is_time(value):
    return 0 < value <= MAX_TIME


def is_serial(serial):
    return 1 <= len(serial) <= 20 and 0 < serial[0] < 0x80


def ascending(values):
    return all(a < b for a, b in zip(values, values[1:]))


digest = (bytes, lambda b: len(b) == 32 and b != bytes(32))
VERSION = (1, int, lambda v: v == 1)


def kind_of(key):
    if isinstance(key, rsa.RSAPublicKey):
        check(key.key_size in (2048, 3072, 4096) and key.public_numbers().e == 65537, "RSA key")
        return "rsa"
    return key.curve.name if isinstance(key, ec.EllipticCurvePublicKey) else "ed25519"


def spki_is(spki, *kinds):
    key = serialization.load_der_public_key(spki)
    check(kind_of(key) in kinds, "key of another kind")
    return True


def open_sign1(message, context, signer):
    """COSE_Sign1 (RFC 9052 section 4.2) under the key that is known to be the signer's; returns the payload."""
    check(message[:1] == b"\xd2", "no COSE_Sign1")
    protected, unprotected, payload, signature = decode(message[1:])
    spki = keys[signer]
    key = serialization.load_der_public_key(spki)
    kind = kind_of(key)
    algorithm, length, hashing = {"secp256r1": (-7, 64, hashes.SHA256()), "secp384r1": (-35, 96, hashes.SHA384()), "ed25519": (-8, 64, None),
                                  "rsa": (-37, len(signature), hashes.SHA256())}[kind]
    check(unprotected == {} and decode(protected) == {1: algorithm, 4: sha(spki)}, "headers")
    signed = cbor2.dumps(["Signature1", protected, context.encode(), payload], canonical=True)
    check(len(signature) == length, "length of the signature")
    try:
        if kind == "ed25519":
            key.verify(signature, signed)
        elif kind == "rsa":
            key.verify(signature, signed, padding.PSS(padding.MGF1(hashing), salt_length=32), hashing)
        else:
            r, s = int.from_bytes(signature[:length // 2], "big"), int.from_bytes(signature[length // 2:], "big")
            order = {"secp256r1": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
                     "secp384r1": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973}[kind]
            check(s <= order // 2, "high S")
            key.verify(utils.encode_dss_signature(r, s), signed, ec.ECDSA(hashing))
    except InvalidSignature:
        check(False, "signature")
    return payload


def sequence(data):
    """A CBOR sequence (RFC 8742) of byte strings; returns each with what follows it."""
    stream, out = io.BytesIO(data), []
    while stream.tell() < len(data):
        start = stream.tell()
        value = cbor2.CBORDecoder(stream).decode()
        check(type(value) is bytes and cbor2.dumps(value) == data[start:stream.tell()], "sequence of byte strings")
        out.append((value, data[stream.tell():]))
    return out


# request.md

#        name: (kind, issuer, profile, profile digest, body, subject)
KINDS = {"issue": (1, 1, 1, 1, 1, 1), "renew": (2, 1, 1, 1, 1, 1), "revoke": (3, 1, 1, 0, 1, 1), "hold": (4, 1, 1, 0, 1, 1),
         "release": (5, 1, 1, 0, 1, 1), "withdraw": (6, 0, 0, 0, 1, 0), "create-key": (16, 0, 0, 0, 0, 0), "sign-ca": (17, 1, 1, 1, 0, 0),
         "roster": (18, 0, 0, 0, 0, 0), "policy": (19, 0, 0, 0, 0, 0), "agent": (20, 0, 0, 0, 0, 0), "station": (21, 0, 0, 0, 0, 0),
         "set-time": (22, 0, 0, 0, 0, 0), "crl": (23, 1, 0, 0, 0, 0),
         "restore": (24, 0, 0, 0, 0, 0), "destroy-key": (25, 0, 0, 0, 0, 0), "foreign-ca": (26, 0, 0, 0, 0, 0), "recovery": (27, 0, 0, 0, 0, 0),
         "cross-certify": (29, 1, 1, 1, 0, 0), "suspend": (30, 0, 0, 0, 0, 0), "revoke-ca": (31, 1, 0, 0, 0, 0), "rotate-key": (32, 0, 0, 0, 0, 0)}
NUMBERS = {k[0]: k for k in KINDS.values()}
TERM = {"fields": (2, dict, lambda f: len(f) <= 32 and all(is_name(k) and is_text(v) for k, v in f.items()), None),
        "not_before": (3, int, is_time, None), "not_after": (4, int, is_time, None)}


def is_scopes(scopes):
    return ascending(scopes) and all(len(s) == 2 and is_name(s[0]) and is_body(s[1]) for s in scopes)


def request(data):
    check(len(data) <= 64 << 10, "too large")
    r = fields(decode(data), version=VERSION, appliance=(2, *digest), kind=(3, int, lambda k: k in NUMBERS), issuer=(4, *digest, None),
               profile=(5, str, is_name, None), profile_digest=(6, *digest, None), body=(7, str, is_body, None), subject=(8, str, is_text, None),
               nonce=(9, bytes, size(16)), created=(10, int, is_time), expires=(11, int, is_time), content=(12, bytes, None))
    check(r["created"] < r["expires"], "expires")
    for name, there in zip(("issuer", "profile", "profile_digest", "body", "subject"), NUMBERS[r["kind"]][1:]):
        check((r[name] is not None) == bool(there), name + " is missing or out of place")
    return r


def issuance(r, c):
    c = fields(c, csr=(1, bytes, lambda b: b != b""), **TERM, origin=(5, int, lambda o: 1 <= o <= 5), evidence=(6, bytes, None, None),
               scopes=(7, list, is_scopes, None), renews=(8, list, lambda n: len(n) == 2 and len(n[0]) == 32 and is_serial(n[1]), None))
    check((c["renews"] is not None) == (r["kind"] == 2), "renews")
    check(c["evidence"] is None or c["origin"] in (1, 2), "evidence")
    csr = x509.load_der_x509_csr(c["csr"])
    check(csr.is_signature_valid, "proof of possession")
    if c["origin"] == 2:
        s = fields(decode(open_sign1(c["evidence"], "coldseal/key-statement/v1", "station")),
                   appliance=(1, *digest), key=(2, *digest), card=(3, str, is_text), subject=(4, str, is_text))
        spki = csr.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        check((s["appliance"], s["key"], s["subject"]) == (r["appliance"], sha(spki), r["subject"]), "key statement is about something else")


def revocation(r, c):
    c = fields(c, serial=(1, bytes, is_serial), reason=(2, int, lambda n: n in (1, 2, 3, 4, 5, 9), None), since=(3, int, is_time, None),
               certificate=(4, bytes, lambda b: 0 < len(b) <= 16384, None))
    check(r["kind"] == 3 or c["certificate"] is None and c["reason"] is None and c["since"] is None, "a hold has no reason")


def replacement(r, c):
    c = fields(c, replaces=(1, *digest), new=(2, bytes, lambda b: b != b""), possession=(3, list, None, None))
    for message in c["possession"] or []:
        check(r["kind"] == 18, "possession")
        check(open_sign1(message, "coldseal/possession/v1", "approver-p384") == sha(c["new"]), "possession is of something else")


def party(data):
    p = fields(decode(data), version=VERSION, name=(2, str, is_name), role=(3, int, lambda n: n in (1, 2)),
               seal=(4, bytes, lambda k: spki_is(k, "secp256r1", "secp384r1", "ed25519")), receiver=(5, bytes, lambda k: spki_is(k, "secp256r1"), None),
               bodies=(6, list, lambda b: ascending(b) and len(b) <= 256 and all(x == "*" or is_body(x) for x in b)),
               bundles=(7, int, None, None), items=(8, int, None, None), retired=(9, bool, None, None))
    for name in ("receiver", "bundles", "items"):
        check((p[name] is not None) == (p["role"] == 1), name + " is missing or out of place")
    check(p["seal"] != p["receiver"], "one key for two purposes")
    return p


def enrolment(r, c):
    c = fields(c, replaces=(1, *digest, None), party=(2, bytes, None))
    check(party(c["party"])["role"] == {20: 1, 21: 2}[r["kind"]], "role")


def foreign(data):
    ca = fields(decode(data), version=VERSION, name=(2, str, is_name), certificate=(3, bytes, None), retired=(4, bool, None, None))
    x509.load_der_x509_certificate(ca["certificate"])


def restoration(c):
    check(c["start"] <= c["size"] and (c["lost"] or 0) <= c["size"] - c["start"], "leaves of a restore")
    floors = c["crls"] or []
    check(all(len(f) == 2 and digest[1](f[0]) and 0 < f[1] <= 1 << 53 for f in floors) and ascending([f[:1] for f in floors]), "CRLs of a restore")


CONTENTS = {
    1: issuance, 2: issuance, 3: revocation, 4: revocation, 18: replacement, 19: replacement, 20: enrolment, 21: enrolment,
    5: lambda r, c: fields(c, serial=(1, bytes, is_serial), hold=(2, int, lambda n: n > 0)),
    6: lambda r, c: fields(c, request=(1, *digest)),
    16: lambda r, c: fields(c, label=(1, str, is_name), algorithm=(2, str, lambda a: a in ("P-256", "P-384", "RSA-3072", "RSA-4096", "Ed25519"))),
    17: lambda r, c: fields(c, key=(1, *digest), **TERM),
    22: lambda r, c: fields(c, time=(1, int, is_time)),
    23: lambda r, c: fields(c, replaces=(1, *digest, None)),
    24: lambda r, c: restoration(fields(c, start=(1, int, lambda n: n > 0), size=(2, int, lambda n: 0 < n <= 1 << 53), root=(3, *digest),
                                        lost=(4, int, lambda n: n > 0, None), crls=(5, list, lambda f: 0 < len(f) <= 64, None))),
    25: lambda r, c: fields(c, key=(1, *digest)),
    26: lambda r, c: foreign(fields(c, replaces=(1, *digest, None), ca=(2, bytes, None))["ca"]),
    27: lambda r, c: fields(c, replaces=(1, *digest), new=(2, *digest)),
    29: lambda r, c: x509.load_der_x509_certificate(fields(c, certificate=(1, bytes, None), not_before=(2, int, is_time, None), not_after=(3, int, is_time, None))["certificate"]),
    30: lambda r, c: fields(c, replaces=(1, *digest), person=(2, str, is_text)),
    32: lambda r, c: fields(c, use=(1, int, lambda u: 1 <= u <= 3), replaces=(2, *digest)),
    31: lambda r, c: fields(c, serial=(1, bytes, is_serial), reason=(2, int, lambda n: n in (1, 2, 3, 4, 5, 9), None), since=(3, int, is_time, None)),
}


# approval.md

def approval(message, signer):
    check(len(message) <= 64 << 10, "too large")
    a = fields(decode(open_sign1(message, "coldseal/approval/v1", signer)), version=VERSION, appliance=(2, *digest), created=(3, int, is_time),
               expires=(4, int, is_time), entries=(5, list, lambda e: 1 <= len(e) <= 1024), manifest=(6, list, None), challenge=(7, bytes, size(16), None))
    check(0 < a["expires"] - a["created"] <= 100 * 86400, "lifetime")
    check(ascending([e[0] for e in a["entries"]]) and all(len(e) == 2 and len(e[0]) == 32 for e in a["entries"]), "entries")
    check(all(ascending(s) and set(s) <= {1, 2} for _, s in a["entries"]), "statements")
    check(ascending([c[:3] for c in a["manifest"]]) and sum(c[3] for c in a["manifest"]) == len(a["entries"]), "manifest")
    for kind, profile, body, n in a["manifest"]:
        check((profile != "") == NUMBERS[kind][2] and (body != "") == NUMBERS[kind][4] and 1 <= n <= 1024, "line of the manifest")
    return a


# bundle.md

def item(data):
    return fields(decode(data), request=(1, bytes, None), current=(2, bytes, None, None), requester=(3, bytes, None, None))


def bundle(data, appliance):
    (message, rest), *strings = sequence(data)
    check(len(message) <= 64 << 10, "header is too large")
    h = fields(decode(open_sign1(message, "coldseal/bundle/v1", "agent-seal")), version=VERSION, sender=(2, str, is_name), to=(3, *digest),
               sequence=(4, int, lambda n: n > 0), created=(5, int, is_time), expires=(6, int, is_time), items=(7, int, lambda n: n <= 1 << 20), rest=(8, *digest),
               acknowledged=(9, list, lambda a: ascending(a) and len(a) <= 256, None), size=(10, int, None, None), root=(11, *digest, None))
    check(h["to"] == appliance and h["rest"] == sha(rest), "seal")
    left, last, groups = h["items"], 1, []
    while strings:
        section, approvals, n = decode(strings.pop(0)[0])
        check(last <= section <= 3 and 1 <= n <= 1024 and n <= left and len(approvals) <= 64, "group is out of place")
        last, left = section, left - n
        check(len(strings) >= n, "items are missing")
        groups.append((section, approvals, [item(strings.pop(0)[0]) for _ in range(n)]))
    check(left == 0, "items are missing")
    return h, groups


# response.md

REFUSAL = lambda r: fields(r, code=(1, str, is_name), params=(2, dict, None, None)) and True


def STATE(value):
    s = fields(value, policy=(1, bytes, None), roster=(2, bytes, None), cas=(3, list, lambda c: len(c) <= 64),
               labels=(4, list, lambda l: all(is_name(x) for x in l) and len(set(l)) == len(l)))
    check(len(s["labels"]) == len(s["cas"]), "labels are not as many as CAs")
    return True


PROOF = lambda p: len(p) <= 64 and all(len(h) == 32 for h in p)


def receipt(message, appliance):
    return fields(decode(open_sign1(message, "coldseal/receipt/v1", "seal")), appliance=(1, bytes, lambda a: a == appliance), request=(2, *digest),
                  outcome=(3, int, lambda o: o in (2, 3)), issuer=(4, *digest), serial=(5, bytes, is_serial), time=(6, int, is_time), size=(7, int, lambda n: n <= 1 << 53))


def result(data, appliance):
    r = fields(decode(data), id=(1, *digest), outcome=(2, int, lambda o: 1 <= o <= 7), issuer=(3, *digest, None), serial=(4, bytes, is_serial, None),
               certificate=(5, bytes, None, None), key=(6, bytes, None, None), receipt=(7, bytes, None, None), refusal=(8, dict, REFUSAL, None))
    has = {name for name, value in r.items() if value is not None} - {"id", "outcome"}
    wanted = {1: {"issuer", "serial", "certificate"}, 2: {"issuer", "serial", "receipt"}, 3: {"issuer", "serial", "receipt"},
              4: {"issuer", "serial"}, 5: set(), 6: has & {"key"}, 7: {"refusal"}}[r["outcome"]]
    check(has == wanted, "the result does not hold what its outcome has")
    if r["receipt"]:
        c = receipt(r["receipt"], appliance)
        check(all(c[x] == r[y] for x, y in (("request", "id"), ("outcome", "outcome"), ("issuer", "issuer"), ("serial", "serial"))), "receipt")
    if r["certificate"]:
        certificate = x509.load_der_x509_certificate(r["certificate"])
        check(certificate.serial_number == int.from_bytes(r["serial"], "big"), "serial")
        serialization.load_der_public_key(keys["ca"]).verify(certificate.signature, certificate.tbs_certificate_bytes)
    return r


def response(data, appliance, bundle_digest):
    (handovers, _), (message, rest), *strings = sequence(data)
    check(handovers == b"" and len(message) <= 1 << 20, "nothing was handed over, or the header is too large")
    number = (int, lambda n: n > 0)
    h = fields(decode(open_sign1(message, "coldseal/response/v1", "seal")), version=VERSION, sender=(2, *digest), to=(3, str, is_name),
               answers=(4, *number), bundle=(5, *digest), created=(6, int, is_time), last=(7, int, None), missing=(8, list, ascending, None),
               pending=(9, list, ascending, None), refusal=(10, dict, REFUSAL, None), results=(11, *number, None), first=(12, *number, None),
               leaves=(13, *number, None), crls=(14, *number, None), checkpoint=(15, bytes, None), range=(16, list, PROOF, None),
               consistency=(17, list, PROOF, None), state=(18, dict, STATE), rest=(19, *digest))
    check(h["sender"] == appliance and h["bundle"] == bundle_digest and h["rest"] == sha(rest), "seal")
    strings = [s for s, _ in strings]
    results, leaves = h["results"] or 0, h["leaves"] or 0
    check(len(strings) == results + leaves + (h["crls"] or 0), "parts are missing or left over")
    log = [decode(leaf) for leaf in strings[results:results + leaves]]
    outcomes = []
    for s in strings[:results]:
        a = fields(decode(s), body=(1, bytes, None), index=(2, *number, None), salt=(3, bytes, size(16), None))
        check((a["index"] is None) == (a["salt"] is None), "index and salt")
        if a["index"]:
            check(log[a["index"] - h["first"]][7] == sha(a["salt"] + a["body"]), "the log records another result")
        outcomes.append(result(a["body"], appliance)["outcome"])
    for s in strings[results + leaves:]:
        crl = x509.load_der_x509_crl(s)
        serialization.load_der_public_key(keys["ca"]).verify(crl.signature, crl.tbs_certlist_bytes)
    origin, tree_size, _ = h["checkpoint"].decode().split("\n")[:3]
    check(origin == "coldseal/" + appliance.hex()[:16] and int(tree_size) == h["first"] + leaves, "checkpoint")
    return outcomes


def genesis(data):
    g = fields(decode(data), version=VERSION, name=(2, str, is_name), nonce=(3, bytes, size(16)), created=(4, int, is_time),
               log=(5, bytes, lambda k: spki_is(k, "ed25519")), receiver=(6, bytes, lambda k: spki_is(k, "secp256r1")),
               seal=(7, bytes, lambda k: spki_is(k, "secp256r1", "secp384r1", "ed25519")), roster=(8, bytes, None), policy=(9, bytes, None))
    check(len({g["log"], g["receiver"], g["seal"]}) == 3, "keys are not apart")
    return g


def handover(data, stand, appliance):
    """Takes stand, the keys by use, one handover on."""
    check(len(data) <= 1024, "too large")
    statement, possession = decode(data)
    seal = next(name for name, spki in keys.items() if spki == stand[3])
    payload = open_sign1(statement, "coldseal/handover/v1", seal)
    h = fields(decode(payload), appliance=(1, bytes, lambda a: a == appliance), use=(2, int, lambda u: 1 <= u <= 3), replaces=(3, *digest),
               key=(4, bytes, None), index=(5, int, lambda n: n > stand.get("index", 0)), time=(6, int, is_time), previous=(7, *digest, None))
    kinds = {1: ("ed25519",), 2: ("secp256r1",), 3: ("secp256r1", "secp384r1", "ed25519")}[h["use"]]
    check(h["replaces"] == sha(stand[h["use"]]) and spki_is(h["key"], *kinds) and h["key"] not in stand["known"], "handover")
    check(h["previous"] == stand.get("last"), "a handover is missing")
    if h["use"] == 3:
        new = next(name for name, spki in keys.items() if spki == h["key"])
        check(open_sign1(possession, "coldseal/possession/v1", new) == sha(payload), "possession is of something else")
    else:
        check(possession == b"", "possession")
    return {**stand, h["use"]: h["key"], "index": h["index"], "last": sha(data), "known": stand["known"] + [h["key"]]}


def introduction(data, typed, many):
    first, handovers, signed = decode(data)
    check(sha(first) == typed and len(handovers) == many, "another appliance")
    g = genesis(first)
    stand = {1: g["log"], 2: g["receiver"], 3: g["seal"], "known": [g["log"], g["receiver"], g["seal"]]}
    for h in handovers:
        stand = handover(h, stand, typed)
    STATE(decode(open_sign1(signed, "coldseal/introduction/v1", next(name for name, spki in keys.items() if spki == stand[3]))))
    check(many == 0 or [stand[u] for u in (1, 2, 3)] == [keys[n] for n in ("new-log", "new-receiver", "new-seal")], "other keys stand")
    return handovers


def main():
    genesis_bytes = load("genesis")
    genesis(genesis_bytes)
    appliance = sha(genesis_bytes)
    ids = {}
    for path in sorted(folder.glob("request-*.txt")):
        data = load(path.stem)
        r = request(data)
        check(r["appliance"] == appliance, "for another appliance")
        CONTENTS[r["kind"]](r, decode(r["content"]))
        ids[path.stem] = sha(data)
        name = path.stem[len("request-"):]
        check(r["kind"] == KINDS[name if name in KINDS else "issue"][0], "kind")
    check(len(ids) == len(KINDS) + 1, "a kind has no vector")
    for name in ("party-agent", "party-station"):
        party(load(name))
    covered = {}
    for name in ("p256", "p384", "ed25519", "rsa"):
        a = approval(load("approval-" + name), "approver-" + name)
        check(a["appliance"] == appliance, "for another appliance")
        covered[name] = {e[0] for e in a["entries"]}
    check(covered["p256"] == {ids["request-hold"]} and covered["rsa"] == {ids["request-revoke"]} and covered["ed25519"] == {ids["request-issue"], ids["request-release"]}, "approvals cover others")
    i = item(load("item-renew"))
    check(sha(i["request"]) == ids["request-renew"], "another request")
    check(open_sign1(i["current"], "coldseal/current-key/v1", "machine") == ids["request-renew"], "current key")
    check(open_sign1(i["requester"], "coldseal/requester/v1", "approver-p256") == ids["request-renew"], "requester")
    data = load("bundle")
    bundle_digest = sha(data)
    _, groups = bundle(data, appliance)
    for (section, approvals, items), signer in zip(groups, ("approver-p256", "approver-ed25519")):
        entries = {e[0] for e in approval(approvals[0], signer)["entries"]}
        check({sha(x["request"]) for x in items} == entries, "the group's approval covers others")
        check(all((request(x["request"])["kind"] in (3, 4)) == (section == 1) for x in items), "section")
    receipt(load("receipt"), appliance)
    check(response(load("response"), appliance, bundle_digest) == [3, 1, 7], "outcomes")
    introduction(load("introduction"), appliance, 0)
    handovers = introduction(load("introduction-later"), appliance, 3)
    check(load("handover") == handovers[1], "handover")
    print("accepted")


try:
    main()
except (ValueError, KeyError, TypeError, IndexError, InvalidSignature, cbor2.CBORDecodeError) as e:
    check(False, "%s: %s" % (type(e).__name__, e))
