"""Decodes and verifies the vector on stdin by RFC 9162, C2SP tlog-checkpoint and log.md, with none of our code."""
import base64, hashlib, json, sys
import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

unhex, sha = bytes.fromhex, lambda *parts: hashlib.sha256(b"".join(parts)).digest()
node = lambda left, right: sha(b"\x01", left, right)


def check(ok, what):
    if not ok:
        sys.exit("refused: " + what)


def root_of(stack):  # stack: (leaves, hash), the largest subtree first
    h = stack[-1][1]
    for _, left in reversed(stack[:-1]):
        h = node(left, h)
    return h


def append(stack, leaf_hash):
    stack.append((1, leaf_hash))
    while len(stack) > 1 and stack[-1][0] == stack[-2][0]:
        (n, right), (_, left) = stack.pop(), stack.pop()
        stack.append((2 * n, node(left, right)))


def inclusion(proof, size, index, h):  # RFC 9162 section 2.1.3.2
    fn, sn = index, size - 1
    for p in proof:
        check(sn > 0, "inclusion proof is too long")
        if fn & 1 or fn == sn:
            h = node(p, h)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            h = node(h, p)
        fn, sn = fn >> 1, sn >> 1
    check(sn == 0, "inclusion proof is too short")
    return h


def consistency(proof, first, second, first_root):  # RFC 9162 section 2.1.4.2, 0 < first < second
    proof = [first_root] + proof if first & (first - 1) == 0 else proof
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = proof[0]
    for c in proof[1:]:
        check(sn > 0, "consistency proof is too long")
        if fn & 1 or fn == sn:
            fr, sr = node(c, fr), node(c, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node(sr, c)
        fn, sn = fn >> 1, sn >> 1
    check(sn == 0, "consistency proof is too short")
    return fr, sr


def checkpoint(tree, origin, key):
    text, blank, line = tree["checkpoint"].partition("\n\n")
    want = "%s\n%d\n%s" % (origin, tree["size"], base64.b64encode(unhex(tree["root"])).decode())
    check(text == want and line.startswith("— " + origin + " "), "checkpoint text")
    signature = base64.b64decode(line.split(" ")[2], validate=False)
    check(signature[:4] == sha(origin.encode(), b"\n\x01", key)[:4], "key id")
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature[4:], (text + "\n").encode())
    except InvalidSignature:
        check(False, "checkpoint signature")


def intents(body, number, appliance, approver):  # the kinds of requests: 3 revoke, 4 hold, 5 release, 6 withdraw
    b = cbor2.loads(body)
    check(cbor2.dumps(b, canonical=True) == body and len(b[1]) == number, "encoding or number of intents")
    wanted, approved = set(), set()
    for item, issuer, serial, tbs in b[1]:
        check((tbs == bytes(32)) == (bool(item) and cbor2.loads(cbor2.loads(item)[1])[3] in (3, 4, 5, 6)), "what an intent signs")
        if not item:
            check(serial == b"" and issuer != bytes(32), "intent of a CRL")
            continue
        request = cbor2.loads(cbor2.loads(item)[1])
        check(request[2] == appliance and request.get(4, bytes(32)) == issuer, "appliance or issuer of an intent")
        if request[3] == 6:
            check(serial == b"", "serial of a withdrawal")
            continue
        wanted.add(sha(cbor2.loads(item)[1]))
        if request[3] in (3, 4, 5):
            check(cbor2.loads(request[12])[1] == serial, "serial of a change")
    for message in b.get(2, []):
        approved |= {entry[0] for entry in approval(message, approver)[5]}
    check(wanted == approved, "what the approvals cover")


def approval(message, approver):
    protected, unprotected, payload, signature = cbor2.loads(message).value
    check(cbor2.loads(protected)[1] == -8 and unprotected == {}, "headers of an approval")
    signed = cbor2.dumps(["Signature1", protected, b"coldseal/approval/v1", payload])
    try:
        Ed25519PublicKey.from_public_bytes(approver).verify(signature, signed)
    except InvalidSignature:
        check(False, "signature of an approval")
    return cbor2.loads(payload)


def restored(body, hashes, known, appliance, approver):  # gives the numbers that CRLs are above
    order = cbor2.loads(body)
    check(cbor2.dumps(order, canonical=True) == body and list(order) == [1, 2, 3, 4], "encoding of an order")
    request = cbor2.loads(order[1])
    check(request[2] == appliance and request[3] == 24, "appliance or kind of a restore")
    check(cbor2.loads(order[4])[1] == sha(order[1]), "result of a restore")
    for message in order[2]:
        a = approval(message, approver)
        check(a[2] == appliance and a[7] == order[3] and a[5][0][0] == sha(order[1]), "what an approval of a restore is for")
    content = cbor2.loads(request[12])
    stack = []
    for h in hashes:
        append(stack, h)
    check(content[1] == known and content[2] == len(hashes) and content[3] == root_of(stack), "what a restore goes on from")
    return dict(content[5])


v = json.load(sys.stdin)
hashes, counter, numbers = [], 0, {}
for leaf in v["leaves"]:
    data = unhex(leaf["leaf"])
    body = sha(unhex(leaf["salt"]), unhex(leaf["body"])) if leaf["salt"] else bytes(32)
    want = [leaf["kind"], leaf["time"], unhex(leaf["issuer"]), unhex(leaf["serial"]), leaf["status"], leaf["profile"], leaf["number"], body]
    check(cbor2.loads(data) == want and cbor2.dumps(want, canonical=True) == data, "leaf %d" % len(hashes))
    if leaf["kind"] == 3:
        intents(unhex(leaf["body"]), leaf["number"], unhex(v["genesis_digest"]), unhex(v["approver_key"]))
    if leaf["kind"] == 4:
        counter += 1
        check(leaf["number"] == counter, "number of step %d" % len(hashes))
    if leaf["kind"] == 8:
        check(leaf["number"] == numbers.get(want[2], 0) + 1, "number of CRL %d" % len(hashes))
        numbers[want[2]] = leaf["number"]
    if leaf["kind"] == 12:
        counter = leaf["number"]
        numbers = restored(unhex(leaf["body"]), hashes, v["known"]["size"], unhex(v["genesis_digest"]), unhex(v["approver_key"]))
    hashes.append(sha(b"\x00", data))
    check(hashes[-1] == unhex(leaf["hash"]), "hash of leaf %d" % (len(hashes) - 1))
known, newest = v["known"], v["newest"]
check(v["restored"]["size"] == len(hashes), "size of the whole")
for tree in known, newest, v["restored"]:
    stack = []
    for h in hashes[: tree["size"]]:
        append(stack, h)
    check(root_of(stack) == unhex(tree["root"]), "root of %d" % tree["size"])
    checkpoint(tree, "coldseal/" + v["genesis_digest"][:16], unhex(v["log_key"]))
roots = unhex(known["root"]), unhex(newest["root"])
index = v["inclusion_index"]
check(inclusion([unhex(h) for h in v["inclusion"]], newest["size"], index, hashes[index]) == roots[1], "inclusion proof")
file = cbor2.loads(unhex(v["inclusion_file"]["file"]))
check(cbor2.dumps(file, canonical=True) == unhex(v["inclusion_file"]["file"]), "encoding of the file")
check(sha(file[5]).hex() == v["inclusion_file"]["genesis_digest"], "genesis in the file")
origin, size, root = file[4].decode().split("\n")[:3]
tree = {"checkpoint": file[4].decode(), "size": int(size), "root": base64.b64decode(root).hex()}
checkpoint(tree, "coldseal/" + v["inclusion_file"]["genesis_digest"][:16], cbor2.loads(file[5])[5][-32:])
check(inclusion(file[3], tree["size"], file[1], sha(b"\x00", file[2])).hex() == tree["root"], "inclusion in the file")
check(sha(file[6]) == cbor2.loads(file[2])[7], "body in the file")
check(consistency([unhex(h) for h in v["consistency"]], known["size"], newest["size"], roots[0]) == roots, "consistency proof")
sizes = [1 << i for i in reversed(range(53)) if known["size"] >> i & 1]
check(len(sizes) == len(v["range"] or []), "range proof has the wrong length")
edge = [(n, unhex(h)) for n, h in zip(sizes, v["range"])]
check(root_of(edge) == roots[0], "range proof does not lead to the known root")
for h in hashes[known["size"] : newest["size"]]:
    append(edge, h)
check(root_of(edge) == roots[1], "range proof and leaves do not lead to the newest root")
print("accepted")
