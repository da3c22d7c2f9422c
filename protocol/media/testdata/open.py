"""Opens a file encrypted as media.md says, by hand: python3 open.py RECEIVER_SCALAR_HEX FILE > PLAINTEXT

Shares nothing with the Go code: HPKE (RFC 9180) and age v1 from HMAC, ECDH and ChaCha20-Poly1305.
"""
import base64
import hashlib
import hmac
import sys

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

CHUNK = 64 * 1024 + 16


def unbase64(text):
    return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)


def extract(salt, ikm):
    return hmac.digest(salt or bytes(32), ikm, "sha256")


def expand(prk, info, length):
    out, block, i = b"", b"", 1
    while len(out) < length:
        block = hmac.digest(prk, block + info + bytes([i]), "sha256")
        out, i = out + block, i + 1
    return out[:length]


def labeled_extract(suite, salt, label, ikm):
    return extract(salt, b"HPKE-v1" + suite + label + ikm)


def labeled_expand(suite, prk, label, info, length):
    return expand(prk, length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info, length)


def hpke_open(private, enc, info, ciphertext):
    curve = ec.SECP256R1()
    own = private.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    dh = private.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(curve, enc))
    kem = b"KEM" + (0x0010).to_bytes(2, "big")
    eae = labeled_extract(kem, b"", b"eae_prk", dh)
    shared = labeled_expand(kem, eae, b"shared_secret", enc + own, 32)
    suite = b"HPKE" + b"".join(i.to_bytes(2, "big") for i in (0x0010, 0x0001, 0x0003))
    context = b"\0" + labeled_extract(suite, b"", b"psk_id_hash", b"") + labeled_extract(suite, b"", b"info_hash", info)
    secret = labeled_extract(suite, shared, b"secret", b"")
    key = labeled_expand(suite, secret, b"key", context, 32)
    nonce = labeled_expand(suite, secret, b"base_nonce", context, 12)
    return ChaCha20Poly1305(key).decrypt(nonce, ciphertext, None)


def main():
    private = ec.derive_private_key(int(sys.argv[1], 16), ec.SECP256R1())
    data = open(sys.argv[2], "rb").read()

    intro, stanza, body, closing, payload = data.split(b"\n", 4)
    assert intro == b"age-encryption.org/v1"
    arrow, kind, receiver, enc = stanza.split(b" ")
    assert (arrow, kind) == (b"->", b"coldseal/p256")
    spki = private.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert unbase64(receiver) == hashlib.sha256(spki).digest()
    file_key = hpke_open(private, unbase64(enc), b"coldseal/media/v1", unbase64(body))

    dashes, mac = closing.split(b" ")
    signed = b"\n".join((intro, stanza, body, dashes))
    assert hmac.compare_digest(unbase64(mac), hmac.digest(expand(extract(b"", file_key), b"header", 32), signed, "sha256"))

    nonce, payload = payload[:16], payload[16:]
    cipher = ChaCha20Poly1305(expand(extract(nonce, file_key), b"payload", 32))
    for i, start in enumerate(range(0, len(payload), CHUNK)):
        last = start + CHUNK >= len(payload)
        sys.stdout.buffer.write(cipher.decrypt(i.to_bytes(11, "big") + bytes([last]), payload[start:start + CHUNK], None))


main()
