#!/usr/bin/env python3
"""Reads a set of shares as JSON from stdin and opens it by share.md alone: logarithm tables instead of the code's field."""
import base64, hashlib, itertools, json, os, sys

v = json.load(sys.stdin)
k, n = v["k"], v["n"]

exp, log, x = [0] * 510, [0] * 256, 1
for i in range(255):  # 3 generates the field
    exp[i] = exp[i + 255] = x
    log[x] = i
    x ^= (x << 1) ^ (0x11B if x & 0x80 else 0)


def mul(a, b):
    return exp[log[a] + log[b]] if a and b else 0


def div(a, b):
    return exp[log[a] + 255 - log[b]] if a else 0


def at(points, where):
    out = bytearray(32)
    for i, (xi, yi) in enumerate(points):
        w = 1
        for j, (xj, _) in enumerate(points):
            if i != j:
                w = mul(w, div(where ^ xj, xi ^ xj))
        for b in range(32):
            out[b] ^= mul(w, yi[b])
    return bytes(out)


def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


with open(os.path.join(os.path.dirname(__file__), "..", "words.txt")) as f:
    words = f.read().split()

points, digests, ids, commitments = [], [], set(), set()
for i, (share, spelt, text) in enumerate(zip(v["shares"], v["words"], v["texts"], strict=True)):
    s = bytes.fromhex(share)
    assert len(s) == 64 and s[0] == 1 and tuple(s[1:4]) == (k, n, i + 1), "header"
    assert s[60:] == sha(b"coldseal/shamir/checksum/v1", s[:60])[:4], "checksum"
    ids.add(s[4:12])
    commitments.add(s[44:60])
    points.append((s[3], s[12:44]))
    digests.append(sha(b"coldseal/shamir/share/v1", s[4:12], s[1:4], s[12:44])[:16])
    number = 0
    for w in spelt.split():
        number = number << 11 | words.index(w)
    assert len(spelt.split()) == 47 and number == int.from_bytes(s, "big") << 5, "words"
    assert text == "COLDSEAL-SHARE-1:" + base64.b32encode(s).decode().rstrip("="), "text"
assert len(points) == n and len(ids) == len(commitments) == 1, "one set"
assert commitments == {sha(b"coldseal/shamir/set/v1", ids.pop(), bytes([k, n]), *digests)[:16]}, "commitment"

secret = bytes.fromhex(v["secret"])
for some in itertools.islice(itertools.combinations(points, k), 200):
    assert at(some, 0) == secret, "secret"
    assert all(at(some, x) == y for x, y in points), "all on one polynomial"

if v["random"]:
    random = bytes.fromhex(v["random"])
    assert bytes.fromhex(v["shares"][0])[4:12] == random[:8], "name of the set"
    coefficients = [secret] + [random[8 + 32 * c : 40 + 32 * c] for c in range(k - 1)]
    for x, y in points:
        out = bytearray(32)
        power = 1
        for c in coefficients:
            for b in range(32):
                out[b] ^= mul(power, c[b])
            power = mul(power, x)
        assert bytes(out) == y, "polynomial"
