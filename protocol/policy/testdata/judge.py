"""Decodes the compiled policy and roster on stdin by policy.md, with none of our code: deterministic CBOR, field numbers,
order, and the digests that requests and orders bind. Prints the digests of policy, roster and each profile."""
import hashlib, json, sys
import cbor2


def check(ok, what):
    if not ok:
        sys.exit("refused: " + what)


def canonical(data):
    value = cbor2.loads(data)
    check(cbor2.dumps(value, canonical=True) == data, "not deterministic CBOR")
    return value


def ascending(values, what):
    check(all(a < b for a, b in zip(values, values[1:])), what + " not in order")


v = json.load(sys.stdin)
policy, roster = bytes.fromhex(v["policy"]), bytes.fromhex(v["roster"])
p, r = canonical(policy), canonical(roster)

check(set(p) == {1, 2, 3, 4} and p[1] == 1, "fields or version of the policy")
ascending([profile[1] for profile in p[4]], "profiles")
digests = {}
for profile in p[4]:
    check({1, 2, 3, 5, 10, 13, 14, 16, 25} <= set(profile), "a profile lacks a field that each has")
    check(1 <= profile[2] <= 7 and 0 < profile[13] <= profile[14], "use or term of a profile")
    for key in (3, 10, 16, 25):
        ascending(profile[key], "list %d of a profile" % key)
    check((profile[2] >= 6) == (27 not in profile), "CA profiles, and they alone, have no approval rule")
    digests[profile[1]] = hashlib.sha256(cbor2.dumps(profile, canonical=True)).hexdigest()

check(set(r) == {1, 2, 3} and r[1] == 1, "fields or version of the roster")
ascending([officer[1] for officer in r[2]], "officers")
ascending([rule[0] for rule in r[3]], "rules of orders")
for kind, persons, role in r[3]:
    able = [o for o in r[2] if role in o[4] and not o.get(6)]
    check(len(able) > persons > 0, "a rule of orders that can lock everyone out")

print(json.dumps({"policy": hashlib.sha256(policy).hexdigest(), "roster": hashlib.sha256(roster).hexdigest(), "profiles": digests}, sort_keys=True))
